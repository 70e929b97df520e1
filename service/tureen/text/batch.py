"""What a model takes: windows of different lengths as rectangular arrays.

Legend: B rows, T tokens of the longest row, N units of the row that has most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from tureen.text.encoding import Window


UNITS: Final = "unit_features"
"""What the array that only some models take is called."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right. Masks are 1 where the element counts.

    A row of `span_weights` is a mean over the tokens of one unit: it sums to 1, or to 0 where the
    row has fewer units than N.
    """

    input_ids: np.ndarray  # (B, T) int64
    attention_mask: np.ndarray  # (B, T) int64
    token_type_ids: np.ndarray  # (B, T) int64
    span_weights: np.ndarray  # (B, N, T) float32
    prefix_lengths: np.ndarray  # (B,) int64, tokens before the response and whatever is pooled
    unit_features: np.ndarray | None = None  # (B, N, F) float32, where the model reads them

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names: what a model is called with."""
        names = ("input_ids", "attention_mask", "token_type_ids", "span_weights")
        arrays = {name: getattr(self, name) for name in names}
        return arrays if self.unit_features is None else arrays | {UNITS: self.unit_features}

    @property
    def rows(self) -> int:
        return self.input_ids.shape[0]

    @property
    def tokens(self) -> int:
        """Those of the rows: what the device computes where it needs no padding."""
        return int(self.attention_mask.sum())

    @property
    def padded_tokens(self) -> int:
        """B * T: what the device computes else."""
        return self.input_ids.size


def collate(windows: Sequence[Window], pad_id: int = 0) -> Batch:
    """One batch of at least one window.

    Args:
        windows: in the order of the rows.
        pad_id: written where there is no token; never attended to.
    """
    rows = len(windows)
    width = max(window.input_ids.size for window in windows)
    units = max(len(window.spans) for window in windows)
    input_ids = np.full((rows, width), pad_id, np.int64)
    attention_mask = np.zeros((rows, width), np.int64)
    token_type_ids = np.zeros((rows, width), np.int64)
    span_weights = np.zeros((rows, units, width), np.float32)
    prefix_lengths = np.zeros(rows, np.int64)
    for row, window in enumerate(windows):
        length = window.input_ids.size
        input_ids[row, :length] = window.input_ids
        attention_mask[row, :length] = 1
        token_type_ids[row, :length] = window.token_type_ids
        weights = span_weights[row]
        for unit, (start, end) in enumerate(window.spans.tolist()):
            weights[unit, start:end] = 1.0 / (end - start)
        prefix_lengths[row] = min(window.response_start, int(window.spans[:, 0].min()))
    return Batch(
        input_ids,
        attention_mask,
        token_type_ids,
        span_weights,
        prefix_lengths,
        _unit_features(windows, units),
    )


def _unit_features(windows: Sequence[Window], units: int) -> np.ndarray | None:
    """(B, N, F), where windows have them: all or none do, they are of one model."""
    described = [window.unit_features for window in windows if window.unit_features is not None]
    if not described:
        return None
    assert len(described) == len(windows)
    padded = np.zeros((len(windows), units, described[0].shape[1]), np.float32)
    for row, features in enumerate(described):
        padded[row, : len(features)] = features
    return padded
