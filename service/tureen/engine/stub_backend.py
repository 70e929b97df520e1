"""Deterministic values without weights: for tests, demonstrations and load tests.

A value depends on the tokens of the row and of the unit, and on nothing else: not on padding,
neighbours or machine.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Final

import numpy as np

from tureen.contracts import Granularity
from tureen.engine.backend import ON_ACCELERATOR, BackendInfo
from tureen.engine.served import ServedModel
from tureen.model.manifest import HeadSpec, Ingredient, Manifest
from tureen.text.batch import Batch
from tureen.text.encoding import TextEncoder
from tureen.text.template import TextSpec

STUB: Final = "stub"
MEMBERS: Final = 3


class StubBackend:
    """Members draw standard-normal-like values from a hash; the soup is their mean."""

    def __init__(self, heads: tuple[str, ...], fingerprint: str) -> None:
        self.info = BackendInfo(
            name="stub",
            dtype="float32",
            device="cpu",
            groups=1 + MEMBERS,
            heads=heads,
            fingerprint=fingerprint,
            batches=ON_ACCELERATOR,
        )

    def forward(self, batch: Batch) -> np.ndarray:
        rows, units, _ = batch.span_weights.shape
        heads = len(self.info.heads)
        values = np.zeros((rows, units, self.info.groups, heads), np.float32)
        contents = [
            hashlib.blake2b(batch.input_ids[row, :length].tobytes())
            for row, length in enumerate(batch.attention_mask.sum(axis=1).tolist())
        ]
        width = batch.span_weights.shape[2]
        places = np.flatnonzero(batch.span_weights)
        edges = np.searchsorted(places, width * np.arange(rows * units + 1)).tolist()
        filled, drawn = [], []
        for unit, (start, end) in enumerate(pairwise(edges)):
            if start < end:
                content = contents[unit // units].copy()
                content.update((places[start:end] - unit * width).tobytes())
                drawn.append(hashlib.shake_128(content.digest()).digest(8 * MEMBERS * heads))
                filled.append(unit)
        members = _normal_like(b"".join(drawn)).reshape(-1, MEMBERS, heads)
        values.reshape(rows * units, -1, heads)[filled, 1:] = members
        values[:, :, 0] = values[:, :, 1:].mean(axis=2)
        return values

    def close(self) -> None:
        """Holds nothing."""


def stub_model() -> ServedModel:
    """The model called "stub": heads like those of grounded-qa, a token for each byte."""
    manifest = Manifest(
        model_id=STUB,
        text=TextSpec(
            template="pair",
            max_input_tokens=4096,
            max_windows=8,
            response_pooling="mean",
            unit_pooling="mean",
        ),
        heads=(
            HeadSpec(name="preference", granularity=Granularity.RESPONSE, weight=0.4),
            HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=0.3),
            HeadSpec(name="relevance", granularity=Granularity.SUB_SENTENCE, weight=0.2),
            HeadSpec(name="completeness", granularity=Granularity.RESPONSE, weight=0.1),
        ),
        recipe="uniform",
        ingredients=tuple(
            Ingredient(name=name, file=name, coefficient=1 / MEMBERS, sha256=_sha256(name))
            for name in (f"stub-{number}" for number in range(MEMBERS))
        ),
    )
    names = tuple(head.name for head in manifest.heads)
    fingerprint = f"sha256:{_sha256('tureen stub 1')}"
    return ServedModel(
        StubBackend(names, fingerprint), TextEncoder(_byte_tokenizer(), manifest.text), manifest
    )


def _byte_tokenizer():
    """A byte is a token: [CLS] first [SEP] second [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[CLS]", "[SEP]")
    pieces = (*special, *sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocab = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in special[1:]],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _normal_like(stream: bytes) -> np.ndarray:
    """Of each 8 bytes the sum of four uniform numbers, scaled to mean 0 and standard deviation 1;
    within ±3.5."""
    uniform = np.frombuffer(stream, "<u2").reshape(-1, 4) / 65535 - 0.5
    return uniform.sum(axis=1) * 3**0.5  # the sum of four has variance 4/12


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
