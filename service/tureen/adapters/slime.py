"""slime: `--custom-rm-path tureen.adapters.slime.reward`.

A prompt given as messages, or as `{"messages": […], "context": […]}` in the sample's metadata, is laid out by the
reward model itself; a string is taken as plain text. With `--reward-key` the reward is a dictionary of `reward` and
what each head says; heads and spans also go to `sample.metadata["tureen"]`. A sample that cannot be scored raises.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tureen.adapters.shared import gathered, plain_sample, score_one, spans_json


async def reward(args: Any, sample: Any, **given: Any) -> Any:
    """The reward of a sample; of a list (of lists) of samples, a list of the same shape."""
    if getattr(args, "eval_reward_key", None) and not getattr(args, "reward_key", None):
        raise ValueError("--eval-reward-key needs --reward-key: a reward is a number without it")
    if isinstance(sample, list):
        return list(await asyncio.gather(*(reward(args, one) for one in sample)))
    score = await score_one(
        gathered(), plain_sample(sample.prompt, sample.response, sample.metadata)
    )
    heads = {name: head.calibrated for name, head in score.heads.items()}
    sample.metadata = {
        **(sample.metadata or {}),
        "tureen": {"heads": heads, "spans": spans_json(score)},
    }
    return {"reward": score.reward, **heads} if getattr(args, "reward_key", None) else score.reward
