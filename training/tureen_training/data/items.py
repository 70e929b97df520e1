"""Examples as tensors: tokenised by the text layer that serves, labelled unit by unit, batched by length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tureen.contracts import Granularity
from tureen.model.manifest import HeadSpec
from tureen.text.batch import collate
from tureen.text.encoding import EncodedResponse, TextEncoder, Window
from tureen.text.segments import Span
from tureen_training.data.labels import unit_labels
from tureen_training.data.records import Comparison, Example, SpanLabels

# legend: K responses of a prompt, B rows of a batch, T tokens, N units of a row, P pairs, H heads


class Target(NamedTuple):
    """What one head is taught of one response: labels of its units and which of them count."""

    labels: Tensor  # (N_h,) float, 1 clean, 0 error
    mask: Tensor  # (N_h,) bool, True where the unit counts


@dataclass(frozen=True, slots=True)
class Item:
    """One example, encoded.

    pairs: (P, 2) indices (chosen, rejected) into the responses, by comparison; only those with P > 0.
    targets: head -> for each of the K responses its `Target`, or None.
    """

    example: Example
    responses: tuple[EncodedResponse, ...]
    pairs: dict[Comparison, Tensor]
    targets: dict[str, tuple[Target | None, ...]]


class Row(NamedTuple):
    """One window of one response of the item at position `item`."""

    item: int
    response: int
    window: Window


def encode(example: Example, encoder: TextEncoder, heads: Sequence[HeadSpec]) -> Item:
    """Tokenise one example exactly as the server would; nothing is cut."""
    granularities = {head.granularity for head in heads}
    responses = tuple(encoder.encode(example.sample(), granularities))
    targets = {
        head.name: tuple(
            None if labels is None else _target(text, units_of(encoded, head.granularity), labels)
            for text, encoded, labels in zip(
                example.responses, responses, example.spans[head.name], strict=True
            )
        )
        for head in heads
        if head.name in example.spans
    }
    pairs = {
        kind: torch.tensor([(pair.chosen, pair.rejected) for pair in pairs], dtype=torch.long)
        for kind, pairs in example.pairs.items()
        if pairs
    }
    return Item(example=example, responses=responses, pairs=pairs, targets=targets)


def units_of(encoded: EncodedResponse, granularity: Granularity) -> list[Span]:
    return [Span(u.start, u.end) for u in encoded.units if u.granularity == granularity]


def _target(response: str, units: Sequence[Span], labels: SpanLabels) -> Target:
    values = unit_labels(response, units, labels)
    return Target(
        labels=torch.tensor([0.0 if value is None else value for value in values]),
        mask=torch.tensor([value is not None for value in values]),
    )


def rows_of(items: Sequence[Item]) -> list[Row]:
    return [
        Row(i, k, window)
        for i, item in enumerate(items)
        for k, encoded in enumerate(item.responses)
        for window in encoded.windows
    ]


def batches(rows: Iterable[Row], max_batch_tokens: int) -> Iterator[list[Row]]:
    """Rows of similar length together, at most `max_batch_tokens` with padding (one row may exceed it)."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.window.input_ids), reverse=True):
        longest = len(batch[0].window.input_ids) if batch else 0
        if batch and longest * (len(batch) + 1) > max_batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def tensors(
    windows: Sequence[Window], pad_id: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The arguments of `RewardModel.forward`, batched by the function that serves."""
    arrays = collate(windows, pad_id).arrays()
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


class Values(NamedTuple):
    """What the model says of one response: for each head the values of its units."""

    by_head: dict[str, Tensor]  # head -> (N_h,)

    def response(self, head: str) -> Tensor:
        """The head's value for the response: the mean over its units. Scalar."""
        return self.by_head[head].mean()


_COMBINE = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


def run(
    items: Sequence[Item],
    heads: Sequence[HeadSpec],
    forward: Callable[[list[Window]], Tensor],
    max_batch_tokens: int,
) -> list[list[Values]]:
    """Values of every response of every item.

    Args:
        forward: windows -> (B, N, H) values, N the most units of any of them.
    """
    rows: list[Row] = []
    values: list[Tensor] = []
    for batch in batches(rows_of(items), max_batch_tokens):
        out = forward([row.window for row in batch])  # (B, N, H)
        rows += batch
        values += [out[b, : len(row.window.spans)] for b, row in enumerate(batch)]
    return combine(items, rows, values, heads)


def combine(
    items: Sequence[Item], rows: Sequence[Row], values: Sequence[Tensor], heads: Sequence[HeadSpec]
) -> list[list[Values]]:
    """Windows to responses: per head mean, max or min over the windows, unit by unit.

    Args:
        values: of each row, aligned with `rows`. Each (N, H), N units of the row.

    Returns:
        For each item, for each of its K responses, its `Values`.
    """
    stacks: dict[tuple[int, int], list[Tensor]] = {}  # all windows of a response have the same N
    for row, value in zip(rows, values, strict=True):
        stacks.setdefault((row.item, row.response), []).append(value)
    result: list[list[Values]] = []
    for i, item in enumerate(items):
        answers = []
        for k, encoded in enumerate(item.responses):
            stack = torch.stack(stacks[i, k])  # (W, N, H)
            kinds = [unit.granularity for unit in encoded.units]
            by_head = {}
            for h, head in enumerate(heads):
                units = [n for n, kind in enumerate(kinds) if kind == head.granularity]
                by_head[head.name] = _COMBINE[head.combine](stack[:, units, h], dim=0)
            answers.append(Values(by_head))
        result.append(answers)
    return result
