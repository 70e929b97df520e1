"""verl: a custom reward function, and a reward manager that finds the prompt by itself.

    reward.custom_reward_function.path=pkg://tureen.adapters.verl  reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.url=localhost:8081  reward.reward_manager.name=naive

Keyword arguments beside verl's own are `url`, `token` and the options of `RemoteOracle`. The prompt is the message
list of `extra_info["raw_prompt"]`, else `extra_info["prompt"]`; the evidence is `extra_info["context"]`. Managers
that do not pass `raw_prompt` on (`dapo`, `gdpo`) need a dataset that holds the prompt there, or `TureenRewardManager`:

    reward.reward_manager.source=importlib  .name=TureenRewardManager  .module.path=pkg://tureen.adapters.verl

A sample that cannot be scored raises. Do not use the manager `rate_limited`: it makes 0.0 of an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tureen.adapters.shared import gathered, sample_of, score_one, scored, spans_json
from tureen.contracts import Sample, Score


async def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    *,
    url: str | None = None,
    token: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`score` is the reward; the other keys are the same for every sample."""
    sample = _sample(extra_info or {}, solution_str)
    return _reply(await score_one(gathered(url, token, options), sample))


def compute_score_sync(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    *,
    url: str | None = None,
    token: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """For the manager `remote`, which takes no coroutine."""
    sample = _sample(extra_info or {}, solution_str)
    return _reply(scored(gathered(url, token, options).submit(sample).result()))


class TureenRewardManager:
    """Made and called as verl's own managers are; where the service is, the environment says."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **given: Any):
        self.config, self.tokenizer = config, tokenizer

    @classmethod
    def init_class(cls, config: Any, tokenizer: Any) -> None:
        """verl calls it once for state that instances share; there is none."""

    async def run_single(self, data: Any) -> dict[str, Any]:
        """data: a DataProto, of which the last row is scored."""
        item = data[-1]
        ids = item.batch["responses"]
        length = int(item.batch["attention_mask"][-len(ids) :].sum())
        response = await asyncio.to_thread(
            self.tokenizer.decode, ids[:length], skip_special_tokens=True
        )
        fields = {**(item.non_tensor_batch.get("extra_info") or {}), **item.non_tensor_batch}
        reply = _reply(await score_one(gathered(), _sample(fields, response)))
        return {"reward_score": reply["score"], "reward_extra_info": reply}


def _sample(fields: Mapping[str, Any], response: str) -> Sample:
    for key in ("raw_prompt", "prompt"):
        prompt = fields.get(key)
        if prompt is not None:
            return sample_of(prompt, response, fields.get("context"))
    raise ValueError(
        f"extra_info holds neither 'raw_prompt' nor 'prompt' but {', '.join(sorted(fields)) or 'nothing'}: put the "
        "prompt into the dataset's extra_info, or use TureenRewardManager"
    )


def _reply(score: Score) -> dict[str, Any]:
    reply: dict[str, Any] = {"score": score.reward}
    reply |= {name: head.calibrated for name, head in score.heads.items()}
    if score.uncertainty is not None:
        reply["reward_std"] = score.uncertainty.std
    reply["truncated"] = float(score.truncated_tokens > 0)
    reply["spans"] = spans_json(score)  # lists of different length have no place in verl's arrays
    return reply
