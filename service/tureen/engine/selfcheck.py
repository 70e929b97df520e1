"""What a model must show before it may serve: batch invariance, and its stored scores.

The reference scores were stored by whatever made the model (torch, fp32), so they also hold an ONNX
export, another device or another dtype against it.
"""

from __future__ import annotations

import logging

import numpy as np

from tureen.contracts import Sample, ScoreOptions
from tureen.engine.parity import rewards_of
from tureen.engine.plan import Plan, make_plan
from tureen.engine.served import ServedModel
from tureen.errors import InputTooLong
from tureen.text.batch import collate
from tureen.text.encoding import Window

log = logging.getLogger(__name__)

INVARIANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1, "int8": 1e-1}
"""How far a calibrated value c may move with its neighbours, as a share of max(1, |c|), by dtype."""

REFERENCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 3e-1, "int8": 3e-1}
"""How far a reward may be from the stored one, in rewards, by dtype."""

_RESPONSES = (
    "Yes.",
    "No, it is not.",
    "It was painted in 1642. It hangs in Amsterdam.",
    "It rains today, so take an umbrella with you, and a coat if you have one; the bus is late.",
)


def windows_of(model: ServedModel) -> list[Window]:
    """Real windows, shortest first; those that do not fit a tiny model are left out.

    Raises:
        InputTooLong: not even the shortest fits.
    """
    plan = make_plan(ScoreOptions(), model.heads, model.redistribution)
    windows: list[Window] = []
    for response in _RESPONSES:
        sample = Sample(prompt="Is it?", responses=(response,))
        try:
            windows += model.encoder.encode(sample, plan.granularities)[0].windows
        except InputTooLong:
            if not windows:
                raise
    return windows


def run_self_check(model: ServedModel) -> str | None:
    """What is wrong with a model, or None. Blocks for some forward passes: the warm-up.

    Raises:
        Whatever the backend raises.
    """
    plan = make_plan(ScoreOptions(), model.heads)  # the reward, however it is spread
    return _check_invariance(model, plan) or _check_reference(model, plan)


def _check_invariance(model: ServedModel, plan: Plan) -> str | None:
    windows = windows_of(model)
    crowd = _values(model, windows)
    alone = [_values(model, [window])[0] for window in windows]
    tolerance = INVARIANCE.get(model.backend.info.dtype, INVARIANCE["float32"])
    worst = 0.0
    for in_crowd, by_itself in zip(crowd, alone, strict=True):
        # Asked of both: max() below would pass over a NaN.
        if not (np.isfinite(in_crowd).all() and np.isfinite(by_itself).all()):
            return "values of a plain sample are not finite"
        calibrated = plan.calibrate(by_itself)  # (N, G, H)
        moved = np.abs(plan.calibrate(in_crowd) - calibrated)
        worst = max(worst, float((moved / np.maximum(1.0, np.abs(calibrated))).max()))
    log.info("%s: alone against in a crowd %.1e", model.model_id, worst)
    if not worst <= tolerance:
        return (
            f"calibrated values move by {worst:.1e} with their neighbours in a batch; {tolerance:.0e} is "
            f"allowed for {model.backend.info.dtype}"
        )
    return None


def _check_reference(model: ServedModel, plan: Plan) -> str | None:
    tolerance = REFERENCE.get(model.backend.info.dtype, REFERENCE["float32"])
    worst = 0.0
    for number, reference in enumerate(model.manifest.reference):
        found = rewards_of(model, reference.sample, plan)
        for reward, expected in zip(found, reference.rewards, strict=True):
            worst = max(worst, abs(reward - expected))
            if not worst <= tolerance:
                return (
                    f"reference {number} is rewarded {reward:.6f}, not {expected:.6f} as stored; "
                    f"{tolerance:.0e} is allowed for {model.backend.info.dtype}"
                )
    log.info("%s: stored reference scores against now %.1e", model.model_id, worst)
    return None


def _values(model: ServedModel, windows: list[Window]) -> list[np.ndarray]:
    """(N, G, H) of each window, all in one batch."""
    values = model.backend.forward(collate(windows, model.pad_id))
    return [rows[: len(window.spans)] for rows, window in zip(values, windows, strict=True)]
