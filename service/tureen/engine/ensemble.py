"""From values to a reward: windows, calibration, heads, members. Pure numpy, float64 throughout.

For one response with values v(n, g, h) of unit n, group g and head h (group 0 is the soup, groups
1..M its members; a model of one group is its own single member):

    v_h(g) = mean over the units n of head h's granularity of v(n, g, h)
    c_h(g) = (v_h(g) − mean_h) / std_h
    r(g)   = Σ_h w_h · c_h(g)

    mean                   reward = r(0)
    worst_case             reward = min_m r(m)
    uncertainty_weighted   reward = r(0) − λ · var_m r(m)

var is the population variance, so one member gives 0 and all three agree. With a uniform soup r(0)
is the mean of the members (nearly so where a head takes the greatest or least of several windows),
and these are mean optimisation, WCO and UWO of Coste et al. 2023,
"Reward Model Ensembles Help Mitigate Overoptimization", arXiv:2310.02743. What an aggregation takes
away from r(0) is the penalty: a segment of its own, so that the segments' rewards always add up to
the reward.

A head of the whole response whose value is redistributed has its values of the sentences by then
(`model.redistribution`); their mean is the value, so all of this holds for it too.

Legend: W windows, P parts taken out, N units, S units of one granularity, G groups, M members, H heads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tureen.contracts import (
    PENALTY_SEGMENT,
    Aggregation,
    HeadScore,
    Redistribution,
    Segment,
    Uncertainty,
)
from tureen.engine.plan import Plan
from tureen.errors import InvalidRequest
from tureen.model.calibration import win_probability as pairwise
from tureen.model.manifest import HeadSpec
from tureen.model.redistribution import by_ablation, by_attention, sentences

if TYPE_CHECKING:
    from tureen.text.encoding import Unit

_COMBINE = {"mean": np.mean, "max": np.max, "min": np.min}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a response's values amount to.

    segments: all of them, whether they are returned or not; they add up to `reward`.
    uncertainty, members: None unless the plan asks for them.
    of_members: what `members` would be if they were asked for.
    """

    reward: float
    heads: dict[str, HeadScore]
    segments: tuple[Segment, ...]
    uncertainty: Uncertainty | None
    members: tuple[float, ...] | None
    of_members: tuple[float, ...]


def judge(
    windows: Sequence[np.ndarray],
    units: Sequence[Unit],
    plan: Plan,
    ablated: Sequence[Sequence[np.ndarray]] = (),
) -> Judgement:
    """One response's judgement.

    Args:
        windows: W arrays (N, G, H of the backend), finite.
        units: the N units; the first one is the whole response.
        ablated: of the P `parts`, where the plan redistributes by ablation: W arrays (1, G, H of
            the backend), finite.
    Raises:
        InvalidRequest: the weights or the penalty are so large that the reward, a share of it or
            its spread is not finite.
    """
    values = combine_windows([window[:, :, plan.columns] for window in windows], plan.heads)
    if plan.redistribution is not None:
        _redistribute(values, units, plan, ablated)
    calibrated = plan.calibrate(values)  # (N, G, H)
    share = _shares(units, plan.heads)  # (N, H)
    of_heads = (calibrated * share[:, None]).sum(axis=0)  # (G, H)
    with np.errstate(over="ignore", invalid="ignore"):
        rewards = of_heads @ plan.weights  # (G,)
        members = rewards[1:] if len(rewards) > 1 else rewards  # (M,)
        soup = float(rewards[0])
        reward = aggregate(soup, members, plan.aggregation, plan.penalty)
        spread = uncertainty(members) if plan.uncertainty else None
        of_segments = calibrated[:, 0] * share * plan.weights  # (N, H)
    finite = np.isfinite(rewards).all() and np.isfinite(of_segments).all()
    if not (finite and math.isfinite(reward) and (spread is None or math.isfinite(spread.std))):
        raise InvalidRequest(
            f"the reward is {reward} with these weights and this penalty; it, its segments and its "
            "spread must be finite: scale them down.",
            field="weights",
        )
    of_members = tuple(members.tolist())
    segments = _segments(units, plan, values[:, 0].T.tolist(), of_segments.T.tolist())
    if plan.aggregation is not Aggregation.MEAN:
        penalty = soup - reward
        whole = units[0]
        segments.append(
            Segment(
                head=PENALTY_SEGMENT,
                start=whole.start,
                end=whole.end,
                value=penalty,
                reward=0.0 - penalty,
            )
        )
    return Judgement(
        reward=reward,
        heads=_head_scores(values[:, 0], share, of_heads, plan),
        segments=tuple(segments),
        uncertainty=spread,
        members=of_members if plan.members else None,
        of_members=of_members,
    )


def _redistribute(
    values: np.ndarray,
    units: Sequence[Unit],
    plan: Plan,
    ablated: Sequence[Sequence[np.ndarray]],
) -> None:
    """Writes the sentences' values of the redistributed heads into values, (N, G, H)."""
    rows, heads = sentences(units), plan.redistributed
    whole = values[0][:, heads]
    if plan.redistribution is Redistribution.ATTENTION:
        spread = by_attention(whole, values[rows][:, :, heads], plan.mean[heads])
    else:
        without = [
            combine_windows([window[:, :, plan.columns] for window in windows], plan.heads)[0]
            for windows in ablated
        ]
        of_heads = np.array(without).reshape(-1, *values.shape[1:])[:, :, heads]
        spread = by_ablation(whole, of_heads, units)
    values[np.ix_(rows, np.arange(values.shape[1]), np.flatnonzero(heads))] = spread


def _shares(units: Sequence[Unit], heads: Sequence[HeadSpec]) -> np.ndarray:
    """(N, H): 1 / S where unit and head are of one granularity, of which there are S units.

    A head without any unit divides by zero here, rather than being worth nothing unnoticed.
    """
    count = Counter(unit.granularity for unit in units)
    each = [(head.granularity, 1 / count[head.granularity]) for head in heads]
    return np.array(
        [
            [part if unit.granularity is granularity else 0.0 for granularity, part in each]
            for unit in units
        ]
    )


def _segments(
    units: Sequence[Unit],
    plan: Plan,
    values: list[list[float]],
    rewards: list[list[float]],
) -> list[Segment]:
    """Head by head, in the order of the response. values, rewards: H rows of N."""
    spread = plan.redistribution is not None and len(sentences(units)) > 1
    marks = [plan.redistribution if spread and here else None for here in plan.redistributed]
    return [
        Segment(
            head=head.name,
            start=unit.start,
            end=unit.end,
            value=value,
            reward=reward,
            redistribution=mark,
        )
        for head, mark, of_units, shares in zip(plan.heads, marks, values, rewards, strict=True)
        for unit, value, reward in zip(units, of_units, shares, strict=True)
        if unit.granularity is head.granularity
    ]


def _head_scores(
    values: np.ndarray, share: np.ndarray, calibrated: np.ndarray, plan: Plan
) -> dict[str, HeadScore]:
    """values: (N, H) of the soup. share: (N, H). calibrated: (G, H)."""
    stds: list[float] | list[None] = [None] * len(plan.heads)
    if plan.spread:
        members = calibrated[1:] if len(calibrated) > 1 else calibrated
        stds = np.sqrt(variance(members)).tolist()
    return {
        head.name: HeadScore(value=value, calibrated=score, std=std)
        for head, value, score, std in zip(
            plan.heads,
            (values * share).sum(axis=0).tolist(),
            calibrated[0].tolist(),
            stds,
            strict=True,
        )
    }


def combine_windows(windows: Sequence[np.ndarray], heads: Sequence[HeadSpec]) -> np.ndarray:
    """One value a unit, group and head: each head combines the windows in its own way.

    Args:
        windows: W arrays (N, G, H).
    Returns:
        (N, G, H) float64.
    """
    if len(windows) == 1:
        return windows[0].astype(np.float64)
    stacked = np.stack(windows).astype(np.float64)  # (W, N, G, H)
    combined = np.empty(stacked.shape[1:])
    for place, head in enumerate(heads):
        combined[..., place] = _COMBINE[head.combine](stacked[..., place], axis=0)
    return combined


def aggregate(soup: float, members: np.ndarray, aggregation: Aggregation, penalty: float) -> float:
    """The reward of one response.

    Args:
        soup: r(0).
        members: (M,) their rewards.
        penalty: λ >= 0, in units of 1/reward; 0 is 0.
    """
    match aggregation:
        case Aggregation.MEAN:
            return soup
        case Aggregation.WORST_CASE:
            return float(members.min())
        case Aggregation.UNCERTAINTY_WEIGHTED:
            return soup - penalty * float(variance(members))


def variance(members: np.ndarray) -> np.ndarray:
    """Population variance over the first axis, exactly 0 where all members are equal.

    (M, ...) -> (...). Rounding of the mean would else leave a trace of disagreement among equals.
    """
    agree = (members == members[0]).all(axis=0)
    return np.where(agree, 0.0, members.var(axis=0))


def uncertainty(members: np.ndarray) -> Uncertainty:
    """(M,) rewards -> how far they are apart."""
    return Uncertainty(
        std=math.sqrt(variance(members)),
        low=float(members.min()),
        high=float(members.max()),
        members=len(members),
    )


def win_probability(rewards: Sequence[float], temperature: float) -> np.ndarray:
    """(K, K), [i][j] is the probability that i is preferred to j; exactly ½ on the diagonal."""
    reward = np.asarray(rewards, np.float64)
    return pairwise(reward[:, None] - reward[None, :], temperature)


def ranking(rewards: Sequence[float]) -> tuple[int, ...]:
    """Indices, best first; ties in the order given."""
    return tuple(sorted(range(len(rewards)), key=lambda index: -rewards[index]))
