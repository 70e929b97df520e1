"""Linear mode connectivity: may these models be averaged at all?

Along the straight line between two models,

    θ(λ) = (1 − λ) θ_a + λ θ_b,   λ = 0, 0.1, …, 1,
    gap(λ) = (1 − λ) Acc(θ_a) + λ Acc(θ_b) − Acc(θ(λ)),   barrier = max_λ gap(λ),

a soup is sound where accuracy does not fall below the chord: Frankle et al. 2020, Linear Mode
Connectivity and the Lottery Ticket Hypothesis, arXiv:1912.05671; for reward models observation 1 of
WARM, arXiv:2401.12187. Models of one pretraining lie in one basin, models of two do not.

The interval of a barrier is simultaneous: with c the 95 % quantile of max |gap* − gap| / s over all
lines, heads and λ at once (gap* resampled by prompt, s its standard deviation), the barrier lies in
max_λ (gap ± c s). So however many lines are looked at, one check in twenty errs at most, and a line
is refused only where the data show a barrier.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from torch import Tensor

from tureen.errors import IncompatibleSoup
from tureen.model.averaging import average
from tureen.model.files import write_atomically
from tureen_training import plots

# legend: P lines, L positions on a line, Q prompts, R resamples

TOLERANCE: Final = 0.01
"""How far below the chord accuracy may lie: one point."""
STEPS: Final = 10
RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95

State = Mapping[str, Tensor]
Verdict = Literal["connected", "unclear", "barrier"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Comparisons won on each prompt, a tie being half, and how many there were. (Q,) each."""

    wins: np.ndarray
    counts: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.wins.sum() / self.counts.sum())


Evaluate = Callable[[State], Mapping[str, Outcomes]]
"""A model's weights -> what each head gets right, on the same prompts every time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one head does between two models.

    lambdas, accuracy: (L,). barrier, low, high: with the simultaneous interval. n: comparisons,
    prompts: they come from.
    """

    a: str
    b: str
    head: str
    lambdas: tuple[float, ...]
    accuracy: tuple[float, ...]
    barrier: float
    low: float
    high: float
    n: int
    prompts: int

    @property
    def gaps(self) -> np.ndarray:
        """How far accuracy is below the chord. (L,)"""
        return _gaps(np.array(self.accuracy), np.array(self.lambdas))

    def verdict(self, tolerance: float = TOLERANCE) -> Verdict:
        """Whether the barrier is within the tolerance, beyond it, or the data are too few to say."""
        if self.high <= tolerance:
            return "connected"
        return "barrier" if self.low > tolerance else "unclear"


def follow(
    states: Mapping[str, State], evaluate: Evaluate, steps: int = STEPS, seed: int = 0
) -> list[Line]:
    """Every line between two of `states` (name -> weights), for every head that has comparisons.

    Evaluates each state once and each line at steps − 1 positions in between.
    """
    lambdas = np.linspace(0.0, 1.0, steps + 1)
    ends = {name: evaluate(state) for name, state in states.items()}
    names: list[tuple[str, str, str]] = []
    wins: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    for a, b in itertools.combinations(states, 2):
        between = [
            evaluate(average([states[a], states[b]], [1 - weight, weight]))
            for weight in lambdas[1:-1].tolist()
        ]
        for head, outcomes in ends[a].items():
            if outcomes.counts.sum() > 0:
                names.append((a, b, head))
                row = [ends[a], *between, ends[b]]
                wins.append(np.stack([there[head].wins for there in row]))
                counts.append(outcomes.counts)
    if not names:
        return []
    return _measured(names, lambdas, np.stack(wins), np.stack(counts), seed)


def _measured(
    names: Sequence[tuple[str, str, str]],
    lambdas: np.ndarray,
    wins: np.ndarray,
    counts: np.ndarray,
    seed: int,
) -> list[Line]:
    """names: P of (a, b, head). lambdas: (L,). wins: (P, L, Q). counts: (P, Q)."""
    prompts = counts.shape[1]
    accuracy = wins.sum(axis=2) / counts.sum(axis=1, keepdims=True)  # (P, L)
    gaps = _gaps(accuracy, lambdas)
    draws = np.random.default_rng(seed).multinomial(
        prompts, np.full(prompts, 1 / prompts), size=RESAMPLES
    )  # (R, Q) how often each prompt is drawn
    drawn_counts = np.maximum(draws @ counts.T, 1)  # (R, P); 0 where a rare head was not drawn
    drawn = np.einsum("rq,plq->rpl", draws, wins, optimize=True) / drawn_counts[:, :, None]
    resampled = _gaps(drawn, lambdas)  # (R, P, L)
    spread = resampled.std(axis=0)  # (P, L)
    # where nothing varies the spread is rounding, and a ratio of roundings would rule the quantile
    deviation = np.abs(resampled - gaps) / np.where(spread > 1e-9, spread, 1.0)
    critical = np.quantile(deviation.max(axis=(1, 2)), CONFIDENCE)
    return [
        Line(
            a=a,
            b=b,
            head=head,
            lambdas=tuple(lambdas.round(10).tolist()),
            accuracy=tuple(accuracy[p].tolist()),
            barrier=float(gaps[p].max()),
            low=max(0.0, float((gaps[p] - critical * spread[p]).max())),
            high=float((gaps[p] + critical * spread[p]).max()),
            n=int(counts[p].sum()),
            prompts=int((counts[p] > 0).sum()),
        )
        for p, (a, b, head) in enumerate(names)
    ]


def _gaps(accuracy: np.ndarray, lambdas: np.ndarray) -> np.ndarray:
    """(…, L) -> (…, L): the chord between the first and the last, minus what is there."""
    chord = accuracy[..., :1] * (1 - lambdas) + accuracy[..., -1:] * lambdas
    return chord - accuracy


def require_connected(lines: Sequence[Line], tolerance: float = TOLERANCE) -> None:
    """Refuse models between which there is a barrier.

    Raises:
        IncompatibleSoup: naming the line with the greatest.
    """
    refused = [line for line in lines if line.verdict(tolerance) == "barrier"]
    if not refused:
        return
    worst = max(refused, key=lambda line: line.barrier)
    at = int(worst.gaps.argmax())
    raise IncompatibleSoup(
        f"barrier: between {worst.a} and {worst.b} the accuracy of {worst.head} falls to "
        f"{worst.accuracy[at]:.3f} at λ = {worst.lambdas[at]:g}, {worst.barrier:.3f} below the chord (95 % interval "
        f"{worst.low:.3f} to {worst.high:.3f}, {len(refused)} of {len(lines)} lines); allowed is {tolerance:g}. "
        "Average models of one pretraining and one probed head, or force the soup if you know better.",
        field="ingredients",
    )


def as_record(lines: Sequence[Line], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """For a manifest: the greatest barrier, and how many lines had which verdict."""
    worst = max(lines, key=lambda line: line.barrier)
    verdicts = [line.verdict(tolerance) for line in lines]
    return {
        "tolerance": tolerance,
        "verdicts": {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
        "greatest_barrier": {
            "between": [worst.a, worst.b],
            "head": worst.head,
            "value": round(worst.barrier, 4),
            "low": round(worst.low, 4),
            "high": round(worst.high, 4),
            "n": worst.n,
            "prompts": worst.prompts,
        },
    }


def write(lines: Sequence[Line], path: Path, tolerance: float = TOLERANCE) -> None:
    """`path`.json with every line, `path`.png with the picture."""
    records = [{**dataclasses.asdict(line), "verdict": line.verdict(tolerance)} for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path.with_name(path.name + ".json"),
        json.dumps({"tolerance": tolerance, "lines": records}, indent=1, allow_nan=False) + "\n",
    )
    heads = list(dict.fromkeys(line.head for line in lines))
    made, panels = plots.panels(len(heads))
    for axes, head in zip(panels, heads, strict=True):
        draw(axes, [line for line in lines if line.head == head], tolerance)
        axes.set_title(head)
    plots.save(made, path.with_name(path.name + ".png"))


def draw(axes: Any, lines: Sequence[Line], tolerance: float = TOLERANCE) -> None:
    """Accuracy minus the chord, in points, along each line; below the dotted line is refused."""
    for line in lines:
        axes.plot(line.lambdas, -100 * line.gaps, marker=".", label=f"{line.a} – {line.b}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhline(-100 * tolerance, color="black", linestyle=":", linewidth=0.8)
    axes.set(xlabel="λ", ylabel="accuracy − chord, points")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
    axes.legend(**below, ncols=3, fontsize="x-small", frameon=False)
