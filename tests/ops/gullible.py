"""A reward model that can be fooled, and the streams of a policy before and after it finds out.

Where little repeats, its values are the stub's: drawn from a hash, with no relation to length. A
response that repeats itself is worth more the longer it is, in the eyes of some members more than
of others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tureen.engine.backend import Backend
from tureen.engine.loading import load_model
from tureen.engine.served import ServedModel
from tureen.model.drift import RewardReference
from tureen.text.batch import Batch

MEMBERS_GULLIBILITY = np.array([0.0, 1.0, 2.0])
WORDS = [
    "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=3 + seed % 7))
    for seed in range(500)
]


class GullibleBackend:
    def __init__(self, stub: Backend) -> None:
        self._stub = stub
        self.info = stub.info

    def forward(self, batch: Batch) -> np.ndarray:
        values = self._stub.forward(batch)  # (B, N, 1 + M, H)
        for row in range(batch.rows):
            response = batch.input_ids[row, np.flatnonzero(batch.span_weights[row, 0])]
            grams = {tuple(response[at : at + 4].tolist()) for at in range(len(response) - 3)}
            repeated = 1 - len(grams) / max(1, len(response) - 3)
            worth = 4.0 * max(0.0, repeated - 0.3) * np.log2(max(2, len(response)) / 64)
            values[row, :, 1:] += worth * MEMBERS_GULLIBILITY[:, None]
            values[row, :, 0] = values[row, :, 1:].mean(axis=1)
        return values

    def close(self) -> None:
        self._stub.close()


def gullible_model(reference: RewardReference | None = None) -> ServedModel:
    stub = load_model("stub")
    return replace(
        stub,
        backend=GullibleBackend(stub.backend),
        manifest=replace(stub.manifest, reward_reference=reference),
    )


def honest_responses(seed: int) -> Iterator[str]:
    """Without end: 5 to 40 words each, none of which has to do with its reward."""
    draw = random.Random(seed)
    while True:
        yield " ".join(draw.choices(WORDS, k=draw.randint(5, 40)))


def hacked_responses(seed: int) -> Iterator[str]:
    """Without end: the same, padded with praise, more of it each time up to some limit."""
    draw = random.Random(seed)
    for number, honest in enumerate(honest_responses(seed)):
        yield honest + " great" * draw.randint(5, 20 + min(60, number // 5))
