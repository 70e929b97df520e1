"""`ScoreOptions` checked against a model's heads: what `ensemble.judge` is to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tureen.contracts import Aggregation, Granularity, Redistribution, ScoreOptions
from tureen.errors import NAMED, InvalidRequest, UnknownHead, nearest, quoted
from tureen.model import calibration
from tureen.model.manifest import HeadSpec
from tureen.model.redistribution import SEGMENTS


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How values become a reward. Arrays run over the H computed heads, in the model's order.

    A head whose values are redistributed has, in `heads`, the granularity of its segments.
    """

    heads: tuple[HeadSpec, ...]
    columns: np.ndarray | slice  # (H,) heads along the last axis of the backend's values
    mean: np.ndarray  # (H,) of the calibration
    std: np.ndarray  # (H,)
    weights: np.ndarray  # (H,)
    granularities: frozenset[Granularity]  # at which the H speak
    redistribution: Redistribution | None
    redistributed: np.ndarray  # (H,) bool: the heads whose values are
    aggregation: Aggregation
    penalty: float
    uncertainty: bool
    members: bool

    @property
    def spread(self) -> bool:
        """Whether the members are looked at."""
        return self.uncertainty or self.members

    def calibrate(self, values: np.ndarray) -> np.ndarray:
        """c = (v − mean) / std, of raw values (..., H)."""
        return calibration.standardise(values, self.mean, self.std)


def make_plan(
    options: ScoreOptions, heads: Sequence[HeadSpec], redistribution: Redistribution | None = None
) -> Plan:
    """The plan of a request.

    Args:
        heads: of the model, in the order of the backend's values.
        redistribution: of the values of heads that speak of the whole response.
    Raises:
        UnknownHead: `heads` or `weights` names a head the model does not have.
        InvalidRequest: `heads` is empty or names one twice; `weights` is empty, not finite, or
            weighs a head that is not computed; `penalty` is negative or not finite.
    """
    chosen = _chosen_heads(options.heads, heads)
    every = len(chosen) == len(heads)
    if not (math.isfinite(options.penalty) and options.penalty >= 0):
        raise InvalidRequest(
            f"penalty is {options.penalty}; it must be finite and at least 0. Send 0 for no penalty.",
            field="penalty",
            got=options.penalty,
            limit=0,
        )
    mean, std = calibration.scales(chosen)
    spread = [
        redistribution is not None and head.granularity is Granularity.RESPONSE for head in chosen
    ]
    segments = [
        replace(head, granularity=SEGMENTS) if is_spread else head
        for head, is_spread in zip(chosen, spread, strict=True)
    ]
    return Plan(
        heads=tuple(segments),
        columns=slice(None) if every else np.array([heads.index(head) for head in chosen]),
        mean=mean,
        std=std,
        weights=np.array(_weights(options.weights, chosen, heads), np.float64),
        granularities=frozenset(head.granularity for head in segments),
        redistribution=redistribution if any(spread) else None,
        redistributed=np.array(spread),
        aggregation=options.aggregation,
        penalty=options.penalty,
        uncertainty=options.uncertainty or options.aggregation is not Aggregation.MEAN,
        members=options.members,
    )


def _chosen_heads(names: tuple[str, ...] | None, heads: Sequence[HeadSpec]) -> tuple[HeadSpec, ...]:
    if names is None:
        return tuple(heads)
    if not names:
        raise InvalidRequest(
            "heads is empty; name at least one head, or leave it out for all of them.",
            field="heads",
        )
    for place, name in enumerate(names):
        _require_known(name, heads, f"heads[{place}]")
        if name in names[:place]:
            raise InvalidRequest(
                f"heads names {name!r} twice; name each head once.",
                field=f"heads[{place}]",
                got=name,
            )
    return tuple(head for head in heads if head.name in names)


def _weights(
    weights: Mapping[str, float] | None, chosen: Sequence[HeadSpec], heads: Sequence[HeadSpec]
) -> list[float]:
    """One a chosen head: the model's, or the request's, where a head left out weighs nothing."""
    if weights is None:
        return [head.weight for head in chosen]
    if not weights:
        raise InvalidRequest(
            "weights is empty, so nothing would be rewarded; weigh at least one head, "
            "or leave it out for the model's own weights.",
            field="weights",
        )
    computed = {head.name for head in chosen}
    for name, weight in weights.items():
        field = f"weights.{name}"
        _require_known(name, heads, field)
        if name not in computed:
            raise InvalidRequest(
                f"weights gives {name!r} a weight, but heads leaves it out; "
                f"add it to heads, or take it out of weights.",
                field=field,
                got=name,
            )
        if not math.isfinite(weight):
            raise InvalidRequest(
                f"weights.{name} is {weight}; a weight must be finite.",
                field=field,
                got=weight,
            )
    return [weights.get(head.name, 0.0) for head in chosen]


def _require_known(name: str, heads: Sequence[HeadSpec], field: str) -> None:
    names = [head.name for head in heads]
    if name not in names:
        raise UnknownHead(
            f"{field[:NAMED]} names the head {quoted(name)}, which this model has not{nearest(name, names)}",
            field=field,
            got=name,
        )
