"""Where rewards come from, as trainers see it: an interface that promises no numbers it does not have.

Trainers take any `RewardOracle`; the one of a run is a `RemoteOracle`, which asks a running service.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from tureen.adapters.oracle import (
    OnSwap,
    OracleUnavailable,
    RemoteOracle,
    Reward,
    SoupSwapped,
    Unscorable,
)
from tureen.contracts import Aggregation, ModelInfo, Sample

__all__ = [
    "OracleOptions",
    "OracleUnavailable",
    "RemoteOracle",
    "Reward",
    "RewardOracle",
    "SoupSwapped",
    "Unscorable",
    "connected",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleOptions:
    """Where rewards come from.

    oracle: address of the service: host:port streams over gRPC, http://… posts. api_key_env: environment variable
        that holds its key; unset, none is sent. model, heads, weights, aggregation, penalty: as of a request.
    patience_s: without an answer for so long the run keeps its state and stops. timeout_s: of one attempt.
    on_swap: other weights at the service than before are logged, or refused.
    """

    oracle: str = "localhost:8081"
    api_key_env: str = "TUREEN_API_KEY"
    model: str = ""
    heads: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    aggregation: Aggregation = Aggregation.MEAN
    penalty: float = 0.5
    patience_s: float = 600.0
    timeout_s: float = 60.0
    on_swap: OnSwap = "log"


def connected(options: OracleOptions) -> RemoteOracle:
    """The oracle of a run; close it at its end."""
    named = {"heads": options.heads, "weights": options.weights, "model": options.model}
    given: dict[str, Any] = {name: value for name, value in named.items() if value}
    return RemoteOracle(
        options.oracle,
        api_key=os.environ.get(options.api_key_env),
        patience_s=options.patience_s,
        timeout_s=options.timeout_s,
        on_swap=options.on_swap,
        aggregation=options.aggregation,
        penalty=options.penalty,
        segments=False,
        **given,
    )


def unscorable_frac(rewards: Sequence[Reward]) -> float:
    """Share of the samples that have no reward; 0.0 of none."""
    return sum(isinstance(reward, Unscorable) for reward in rewards) / max(1, len(rewards))
