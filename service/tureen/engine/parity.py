"""How far the rewards of one backend are from another's, and how many pairs change their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tureen.contracts import Sample, ScoreOptions
from tureen.engine.ensemble import judge
from tureen.engine.plan import Plan, make_plan
from tureen.engine.served import ServedModel
from tureen.text.batch import collate


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardParity:
    """Of some responses' rewards, found against expected.

    max_error, mean_error: absolute, in rewards. pairs: of responses whose expected rewards differ;
    flipped: of them, whose found rewards are not in that order, equal ones among them.
    """

    responses: int
    max_error: float
    mean_error: float
    pairs: int
    flipped: int

    @property
    def flip_rate(self) -> float:
        return self.flipped / self.pairs if self.pairs else 0.0


def reward_parity(found: ArrayLike, expected: ArrayLike) -> RewardParity:
    """
    Args:
        found, expected: (B,) rewards of the same responses, B > 0; every two of them are a pair.
    """
    new, old = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    first, second = np.triu_indices(len(old), k=1)
    order = np.sign(old[first] - old[second])
    kept = np.sign(new[first] - new[second]) == order  # a NaN keeps none
    errors = np.abs(new - old)
    return RewardParity(
        responses=len(old),
        max_error=float(errors.max()),
        mean_error=float(errors.mean()),
        pairs=int((order != 0).sum()),
        flipped=int(((order != 0) & ~kept).sum()),
    )


def describe(parity: RewardParity) -> str:
    """For people."""
    return (
        f"{parity.flipped} of {parity.pairs} pairs change their order ({parity.flip_rate:.2%}), "
        f"rewards differ by at most {parity.max_error:.3g}, {parity.mean_error:.2g} in the mean"
    )


def rewards(model: ServedModel, samples: Sequence[Sample]) -> list[float]:
    """Of all responses, in order, each window alone on the device, however values are spread.

    Raises:
        TureenError: a sample that cannot be scored. Whatever the backend raises.
    """
    plan = make_plan(ScoreOptions(), model.heads)
    return [reward for sample in samples for reward in rewards_of(model, sample, plan)]


def rewards_of(model: ServedModel, sample: Sample, plan: Plan) -> list[float]:
    """Of the responses of one sample."""
    found = []
    for response in model.encoder.encode(sample, plan.granularities):
        values = [
            model.backend.forward(collate([window], model.pad_id))[0] for window in response.windows
        ]
        found.append(judge(values, response.units, plan).reward)
    return found
