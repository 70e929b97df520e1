"""TRL: reward functions of `GRPOTrainer` and `RLOOTrainer`, and of the trainers that call them alike.

    GRPOTrainer(model, reward_funcs=[overall], …)        trl grpo --reward_funcs tureen.adapters.trl.overall …

`overall` is the reward. `factuality`, `relevance` and `completeness` are what a head says, calibrated, for trainers
that weigh themselves (`reward_weights`, `multi_objective_aggregation`); beside `overall` they would count twice.
All functions of one call share one request. A dataset column `context` holds the evidence: a text, or a list of them.

A reward is one number a response: TRL has no place for rewards of tokens, short of a trainer of one's own whose loss
takes advantages of tokens.

A sample that cannot be scored is None from every function, which TRL leaves out of the baseline. `overall_sync` is
for trainers that take no coroutine (`OnlineDPOTrainer`); it raises instead, because there None would become 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tureen.adapters.oracle import Reward, Unscorable
from tureen.adapters.shared import content_of, gathered, head_of, sample_of, scored
from tureen.contracts import Sample

Rewards = list[float | None]
Texts = Sequence[Any]  # of strings, or of lists of messages

_last: tuple[Texts, list[Sample], Future[list[Reward]]] | None = None


async def overall(prompts: Texts, completions: Texts, **columns: Any) -> Rewards:
    return await _numbers(prompts, completions, columns)


async def factuality(prompts: Texts, completions: Texts, **columns: Any) -> Rewards:
    return await _numbers(prompts, completions, columns, "factuality")


async def relevance(prompts: Texts, completions: Texts, **columns: Any) -> Rewards:
    return await _numbers(prompts, completions, columns, "relevance")


async def completeness(prompts: Texts, completions: Texts, **columns: Any) -> Rewards:
    return await _numbers(prompts, completions, columns, "completeness")


def overall_sync(prompts: Texts, completions: Texts, **columns: Any) -> list[float]:
    """Raises `Unscored`."""
    rewards = gathered().oracle.score(samples_of(prompts, completions, columns))
    return [scored(reward).reward for reward in rewards]


def samples_of(prompts: Texts, completions: Texts, columns: dict[str, Any]) -> list[Sample]:
    contexts = columns.get("context") or [None] * len(prompts)
    return [
        _sample(prompt, completion, context)
        for prompt, completion, context in zip(prompts, completions, contexts, strict=True)
    ]


def _sample(prompt: Any, completion: Any, context: Any) -> Sample:
    """With tools a completion is several messages: the last one is the response, the others came before it."""
    if isinstance(completion, str):
        return sample_of(prompt, completion, context)
    opening = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return sample_of([*opening, *completion[:-1]], content_of(completion[-1]), context)


async def _numbers(
    prompts: Texts, completions: Texts, columns: dict[str, Any], head: str | None = None
) -> Rewards:
    future, is_first = _shared(completions, samples_of(prompts, completions, columns))
    rewards = await asyncio.shield(asyncio.wrap_future(future))
    if is_first:
        _log(rewards, columns.get("log_extra"), columns.get("log_metric"))
    return [
        None
        if isinstance(reward, Unscorable)
        else reward.reward
        if head is None
        else head_of(reward, head)
        for reward in rewards
    ]


def _shared(completions: Texts, samples: list[Sample]) -> tuple[Future[list[Reward]], bool]:
    """The request for a batch, and whether this call made it: functions of one call get the same list objects."""
    global _last
    if _last is not None and _last[0] is completions and _last[1] == samples:
        return _last[2], False
    future = gathered().oracle.submit(samples)
    _last = completions, samples, future
    return future, True


def _log(
    rewards: Sequence[Reward],
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> None:
    """Once a batch, where the trainer lets a function log."""
    unscorable = [one.code if isinstance(one, Unscorable) else "" for one in rewards]
    if log_extra is not None:
        log_extra("unscorable", unscorable)
    if log_metric is not None and rewards:
        log_metric("oracle/unscorable_frac", sum(map(bool, unscorable)) / len(rewards))
        stds = [
            one.uncertainty.std
            for one in rewards
            if not isinstance(one, Unscorable) and one.uncertainty is not None
        ]
        if stds:
            log_metric("oracle/reward_std", sum(stds) / len(stds))
