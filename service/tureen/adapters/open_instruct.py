"""open-instruct: a verifier of the name "tureen".

    from tureen.adapters import open_instruct
    open_instruct.install()          # in the launch script, before build_all_verifiers

Give the dataset the verifier source "tureen" and the run `--verification_reward 1`, with which rewards are multiplied
(10 by default). An unknown verifier source scores 0 with a warning only, so check once that
`build_all_verifiers(args)` holds "tureen". A label that is the JSON of `{"messages": […], "context": […]}` brings the
conversation and the evidence; else `query` is the prompt. A sample that cannot be scored raises.
"""

from __future__ import annotations

from typing import Any

from tureen.adapters.shared import described, gathered, sample_of, score_one, scored
from tureen.contracts import Sample, Score


def install() -> type:
    """Makes open-instruct know the verifier, which it finds among the subclasses of its base."""
    from open_instruct import ground_truth_utils as upstream  # pyright: ignore[reportMissingImports]

    for known in upstream.VerifierFunction.__subclasses__():
        if known.__name__ == "TureenVerifier":
            return known

    class TureenVerifier(upstream.VerifierFunction):
        def __init__(self, verifier_config: Any = None) -> None:
            super().__init__("tureen", weight=1.0, verifier_config=verifier_config)

        def __call__(
            self,
            tokenized_prediction: list[int],
            prediction: str,
            label: Any,
            query: str | None = None,
            rollout_state: Any = None,
        ) -> Any:
            reward = gathered().submit(_sample(prediction, label, query)).result()
            return _result(scored(reward))

        async def async_call(
            self,
            tokenized_prediction: list[int],
            prediction: str,
            label: Any,
            query: str | None = None,
            rollout_state: Any = None,
        ) -> Any:
            return _result(await score_one(gathered(), _sample(prediction, label, query)))

    def _result(score: Score) -> Any:
        heads = ", ".join(f"{name} {head.calibrated:.2f}" for name, head in score.heads.items())
        return upstream.VerificationResult(score=score.reward, reasoning=heads)

    return TureenVerifier


def _sample(prediction: str, label: Any, query: str | None) -> Sample:
    given = described(label)
    prompt = given.get("messages") or given.get("prompt") or query
    if prompt is None:
        raise ValueError("open-instruct passed no query, and the label holds no prompt")
    return sample_of(prompt, prediction, given.get("context"))
