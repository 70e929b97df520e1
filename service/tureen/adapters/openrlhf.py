"""OpenRLHF: the file for `--reward.remote_url`, which waits where a URL gives up after five seconds.

    --reward.remote_url "$(python -m tureen.adapters.openrlhf)"

The prompt is taken as plain text, unless the label is the JSON of `{"messages": […], "context": […]}`. `scores`,
which dynamic filtering compares with its range, are the rewards. A sample that cannot be scored raises.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tureen.adapters.shared import gathered, plain_sample, scored
from tureen.contracts import Sample


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **given: Any
) -> dict[str, Any]:
    """queries: prompt and response as one string."""
    connection = gathered()
    samples = map(_sample, queries, prompts, labels)
    rewards = [connection.submit(sample) for sample in samples]
    scores = [scored(reward.result()) for reward in rewards]
    numbers = [score.reward for score in scores]
    names = scores[0].heads if scores else ()
    logs = {name: [score.heads[name].calibrated for score in scores] for name in names}
    return {"rewards": numbers, "scores": numbers, "extra_logs": logs}


def _sample(query: str, prompt: str, label: Any) -> Sample:
    if not query.startswith(prompt):
        raise ValueError(
            "a query does not begin with its prompt, so the response cannot be told apart; is the prompt "
            "cut, or decoded in another way?"
        )
    return plain_sample(prompt, query[len(prompt) :], label)


if __name__ == "__main__":
    sys.stdout.write(f"{__file__}\n")
