"""One value of a whole response, spread over its sentences: a dense signal for any scalar model.

For a head with value v and calibration (mean, std), c = (v − mean) / std; the S sentences get values
v_s whose mean is v, so that their rewards w·c_s / S add up to w·c exactly, whatever the method
(conservation). Of one sentence nothing is spread.

ablation    d_s = v − v(response without s), and v_s = v + S·(d_s − mean d), that is

                r_s = R/S + w·(d_s − mean d) / std

            the equal allocation of nonseparable contributions (Moulin 1985, "The separability axiom
            and equal-sharing methods", J. Econ. Theory 36; of two sentences the Shapley value).
            What the d_s do not explain of R is shared equally, and so nothing is divided by their
            sum, which is near zero where sentences repeat or cancel each other. Costs S more runs.

attention   v_s = mean + S·A_s·(v − mean), that is r_s = R·A_s; A_s ≥ 0 is the attention that the
            scoring position pays to the tokens of s in the last attention layer, the mean over its
            heads, as a share of what it pays to the response: Σ A_s = 1. This is ABC (Chan et al.
            2024, "Dense Reward for Free in RLHF", arXiv:2402.00782) with b = 1; its
            r = (1 − b)·R·[last token] + b·R·a for another b is a blend of `reward` and
            `token_rewards` that a caller can make. Costs next to nothing. It says where the model
            looked, not what for: all shares have the sign of R.

Legend: S sentences, P parts, N units, W windows, T tokens, G groups, H heads. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from tureen.contracts import Granularity
from tureen.text.encoding import Window

if TYPE_CHECKING:
    from tureen.text.encoding import EncodedResponse, Unit

SEGMENTS: Final = Granularity.SENTENCE
"""What a value of the response is spread over."""

MOST_PARTS: Final = 32
"""Runs an ablation adds to a response; of more sentences, neighbours are taken out together."""


def sentences(units: Sequence[Unit]) -> np.ndarray:
    """(S,) which of the units are the sentences; they stand together."""
    return np.array([i for i, unit in enumerate(units) if unit.granularity is SEGMENTS], np.int64)


def parts(units: Sequence[Unit]) -> list[np.ndarray]:
    """P runs of sentences, each taken out at once; none where there is one sentence."""
    found = sentences(units)
    return np.array_split(found, min(len(found), MOST_PARTS)) if len(found) > 1 else []


def ablated_windows(response: EncodedResponse) -> list[tuple[Window, ...]]:
    """P times the W windows of a response, each time without one of its `parts`.

    Its tokens are taken out; prompt, context and the other tokens stay as they are, so that nothing
    but the part differs. Such a window has one unit, the response.
    """
    return [
        tuple(_without(window, part, sentences(response.units)) for window in response.windows)
        for part in parts(response.units)
    ]


def _without(window: Window, part: np.ndarray, all_sentences: np.ndarray) -> Window:
    ends = window.spans[:, 1]  # where a unit's tokens begin is told by the one before
    first = window.response_start if part[0] == all_sentences[0] else int(ends[part[0] - 1])
    keep = np.ones(len(window.input_ids), bool)
    keep[first : ends[part[-1]]] = False
    start, end = window.spans[0]
    last = int(keep[:end].sum())
    pooled = min(int(keep[:start].sum()), last - 1), last  # the last token may be one taken out
    return Window(
        input_ids=window.input_ids[keep],
        token_type_ids=window.token_type_ids[keep],
        spans=np.array([pooled], np.int32),
        response_start=window.response_start,
        unit_features=None if window.unit_features is None else window.unit_features[:1],
    )


def by_ablation(value: np.ndarray, without: np.ndarray, units: Sequence[Unit]) -> np.ndarray:
    """Values of the sentences from those of the response without them.

    Sentences that were taken out together share their effect equally.

    Args:
        value: (..., H) of the response. without: (P, ..., H) in the order of `parts`.
    Returns:
        (S, ..., H), float64.
    """
    sizes = [len(part) for part in parts(units)]
    if not sizes:
        return value[None]
    each = np.array(sizes).reshape(-1, *[1] * value.ndim)
    effect = np.repeat((value - without) / each, sizes, axis=0)  # (S, ..., H)
    return value + len(effect) * (effect - effect.mean(axis=0))


def by_attention(value: np.ndarray, attention: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Values of the sentences from the attention paid to them.

    Args:
        value: (..., H) of the response. attention: (S, ..., H), not negative. mean: (H,) of the
            calibration, the value that is worth nothing.
    Returns:
        (S, ..., H), float64; not finite where no attention at all is paid.
    """
    if len(attention) == 1:
        return value[None]
    share = attention / attention.sum(axis=0)
    return mean + len(attention) * share * (value - mean)
