"""Which ingredients a soup takes, and how much of each, by accuracy on held-out data.

Both functions see a soup as its coefficients and ask `evaluate` what it is worth; they are deterministic. An
accuracy that was searched for is no estimate: report the soup on data that took no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

Coefficients = tuple[float, ...]
Evaluate = Callable[[Coefficients], float]

STRIDES: Final = (0.25, 0.1, 0.05)
MAX_TRIALS: Final = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen, what it was worth there, and every soup that was tried for it."""

    coefficients: Coefficients
    accuracy: float
    trials: dict[Coefficients, float]

    def as_record(self) -> dict[str, Any]:
        """For a manifest, beside the uniform soup of all."""
        everyone = len(self.coefficients)
        record = {"accuracy": round(self.accuracy, 4), "trials": len(self.trials)}
        uniform = self.trials.get(uniform_over(range(everyone), everyone))
        return record if uniform is None else {**record, "uniform": round(uniform, 4)}


def uniform_over(chosen: range | list[int], count: int) -> Coefficients:
    return tuple(1 / len(chosen) if i in chosen else 0.0 for i in range(count))


def greedy(count: int, evaluate: Evaluate) -> Selection:
    """The greedy soup: best first, each further one kept if the uniform soup with it is not worse.

    Wortsman et al. 2022, Model soups, arXiv:2203.05482, recipe 1. It is at least as accurate as the best
    ingredient on the data it was chosen by. Takes 2 · count − 1 trials.
    """
    trials = _Trials(evaluate, limit=2 * count)
    alone = [trials(uniform_over([i], count)) for i in range(count)]
    first, *others = sorted(range(count), key=lambda i: -alone[i])
    chosen, best = [first], alone[first]
    for candidate in others:
        accuracy = trials(uniform_over([*chosen, candidate], count))
        if accuracy >= best:
            chosen, best = [*chosen, candidate], accuracy
    return Selection(uniform_over(chosen, count), best, trials.known)


def search(count: int, evaluate: Evaluate, max_trials: int = MAX_TRIALS) -> Selection:
    """Coefficients on the simplex by exchange: from the best of uniform and single, a little of one
    ingredient goes to another wherever that helps most, by `STRIDES` that become smaller.

    Stops where no exchange helps, or after `max_trials` soups.
    """
    trials = _Trials(evaluate, limit=max_trials)
    starts = [uniform_over(range(count), count), *(uniform_over([i], count) for i in range(count))]
    best = _best(trials, starts)
    for stride in STRIDES:
        while (better := _best(trials, [best, *_exchanges(best, stride)])) != best:
            best = better
    return Selection(best, trials.known[best], trials.known)


class _Trials:
    """Asks once for each soup, and for no more than `limit`."""

    def __init__(self, evaluate: Evaluate, limit: int) -> None:
        self.known: dict[Coefficients, float] = {}
        self._evaluate, self._limit = evaluate, limit

    def __call__(self, coefficients: Coefficients) -> float:
        if coefficients not in self.known:
            if len(self.known) >= self._limit:
                return float("-inf")
            self.known[coefficients] = self._evaluate(coefficients)
        return self.known[coefficients]


def _best(trials: _Trials, candidates: list[Coefficients]) -> Coefficients:
    """The first of those that are worth most."""
    return max(candidates, key=trials)


def _exchanges(coefficients: Coefficients, stride: float) -> Iterator[Coefficients]:
    for giver, given in enumerate(coefficients):
        moved = min(stride, given)
        for taker in range(len(coefficients)):
            if moved > 0 and taker != giver:
                changed = list(coefficients)
                changed[giver] -= moved
                changed[taker] += moved
                yield tuple(round(value, 9) for value in changed)
