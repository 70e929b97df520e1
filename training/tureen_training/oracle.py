"""Where rewards come from, as trainers see it: an interface that promises no numbers it does not have.

Trainers take any `RewardOracle`; the one of a run is a `RemoteOracle`, which asks a running service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from tureen.adapters.oracle import (
    OracleUnavailable,
    RemoteOracle,
    Reward,
    SoupSwapped,
    Unscorable,
)
from tureen.contracts import ModelInfo, Sample

__all__ = [
    "OracleUnavailable",
    "RemoteOracle",
    "Reward",
    "RewardOracle",
    "SoupSwapped",
    "Unscorable",
    "lineage_mismatch",
    "unscorable_frac",
]


class RewardOracle(Protocol):
    """What a trainer knows of rewards; `RemoteOracle` says what each part promises."""

    fingerprint: str
    swaps: list[tuple[str, str]]

    def submit(self, samples: Sequence[Sample]) -> Future[list[Reward]]: ...

    def score(self, samples: Sequence[Sample]) -> list[Reward]: ...

    def info(self) -> ModelInfo: ...

    def close(self) -> None: ...


def unscorable_frac(rewards: Sequence[Reward]) -> float:
    """Share of the samples that have no reward; 0.0 of none."""
    return sum(isinstance(reward, Unscorable) for reward in rewards) / max(1, len(rewards))


def lineage_mismatch(policy: Mapping[str, Any], reward: ModelInfo) -> str | None:
    """What to warn of when reward model and policy come from different pretraining, else None.

    A reward model of another lineage than the policy's trains it worse than its accuracy promises (RewardBench 2,
    arXiv:2506.01937, section 5.2).

    Args:
        policy: its `lineage.json`, in which `base` names what it began from and `base_lineage` how that came to be.
    """
    bases: list[Any] = []
    step: Any = policy
    while isinstance(step, Mapping) and step:
        if base := step.get("base"):
            bases.append(base)
        step = step.get("base_lineage")
    if reward.base in bases:
        return None
    own = " from ".join(map(str, bases)) if bases else "a base its lineage does not name"
    return (
        f"The reward model {reward.id!r} is made from {reward.base!r}, the policy from {own}: with "
        "different pretraining the reward tends to teach less than its accuracy promises; judge "
        "the policy by other means than this reward."
    )
