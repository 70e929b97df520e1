"""verl: a custom reward function, and a reward manager that finds the prompt by itself.

    reward.custom_reward_function.path=pkg://tureen.adapters.verl  reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.url=localhost:8081  reward.reward_manager.name=naive

Keyword arguments beside verl's own are `url`, `token` and the options of `RemoteOracle`. The prompt is the message
list of `extra_info["raw_prompt"]`, else `extra_info["prompt"]`; the evidence is `extra_info["context"]`. Managers
that do not pass `raw_prompt` on (`dapo`, `gdpo`) need a dataset that holds the prompt there, or `TureenRewardManager`:

    reward.reward_manager.source=importlib  .name=TureenRewardManager  .module.path=pkg://tureen.adapters.verl

`TureenDenseRewardManager` gives each token its own reward, through `assemble_rm_scores`, which verl calls on the
colocated path alone (a reward model enabled in the resource pool of the policy); on the streaming path a reward must be
one number, and verl refuses the list. The other trainers' interfaces have room for one number a response.

A sample that cannot be scored raises. Do not use the manager `rate_limited`: it makes 0.0 of an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tureen.adapters.shared import Unscored, gathered, sample_of, score_one, spans_json
from tureen.contracts import Sample, Score
from tureen.errors import MissingExtra


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


def compute_score_sync(*fields: Any, **named: Any) -> dict[str, Any]:
    """`compute_score` for the manager `remote`, which takes no coroutine and calls from a thread of its own."""
    return asyncio.run(compute_score(*fields, **named))


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
        response = await asyncio.to_thread(
            self.tokenizer.decode, _response_ids(item), skip_special_tokens=True
        )
        reply = _reply(await score_one(gathered(), _sample(_fields(item), response)))
        return {"reward_score": reply["score"], "reward_extra_info": reply}


class TureenDenseRewardManager(TureenRewardManager):
    """Rewards of the policy's own tokens, which add up to the reward. It needs a fast tokenizer."""

    async def run_single(self, data: Any) -> dict[str, Any]:
        """As that of `TureenRewardManager`, with a list as `reward_score`: one reward for each token."""
        try:
            from tureen.text.policy_tokens import align, decoded, spread
        except ImportError as error:
            raise MissingExtra("Rewards of tokens", "torch") from error
        item = data[-1]
        ids = [int(token) for token in _response_ids(item)]
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError("the tokenizer is a slow one, which cannot say where its tokens are")
        response, spans = await asyncio.to_thread(decoded, backend, ids)
        alignment = align(spans)
        sample = replace(_sample(_fields(item), response), offsets=(alignment.offsets or None,))
        score = await score_one(gathered(), sample)
        if score.token_rewards is None:
            raise Unscored("the service gave no token_rewards; ask one that does")
        rewards = spread(alignment, score.token_rewards, len(ids))
        return {"reward_score": rewards, "reward_extra_info": _reply(score)}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[Sequence[float]]) -> Any:
        """(B, R) rewards of all tokens, 0 behind the last token of a response."""
        import torch

        placed = torch.zeros(data.batch["responses"].shape, dtype=torch.float32)
        for row, own in enumerate(scores):
            placed[row, : len(own)] = torch.tensor(own)
        return placed


def _response_ids(item: Any) -> Any:
    """The tokens of a response that its mask counts."""
    ids = item.batch["responses"]
    return ids[: int(item.batch["attention_mask"][-len(ids) :].sum())]


def _fields(item: Any) -> dict[str, Any]:
    return {**(item.non_tensor_batch.get("extra_info") or {}), **item.non_tensor_batch}


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
