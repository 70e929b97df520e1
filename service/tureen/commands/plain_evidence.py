"""The template `evidence` by its definition (`tureen.text.evidence`), one token at a time: no codes, no arrays.

What `tureen doctor` holds against the rows and the features that are served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tureen.contracts import Granularity, Sample
from tureen.text import template
from tureen.text.evidence import LENGTHS, NO_CONTEXT
from tureen.text.segments import segment

_FIRST = NO_CONTEXT + 1
_LEVELS = len(LENGTHS) + 1


def plain_types(tokenizer: Any, sample: Sample, response: str) -> list[int]:
    """The types of the tokens of one response."""
    _, context = template.render_evidence(sample)
    starts = [span.start for span in segment(response, Granularity.SENTENCE)]
    ids, sentences = _tokens(tokenizer, response, starts)
    if not context:
        return [NO_CONTEXT] * len(ids)
    evidence, passages = _tokens(tokenizer, context, template.context_sentences(sample, "evidence"))
    vocabulary: dict[int, set[int]] = {}
    for token, sentence in zip(evidence, passages, strict=True):
        vocabulary.setdefault(sentence, set()).add(token)
    levels = [0] * len(ids)
    for length in LENGTHS:
        known = {tuple(evidence[at : at + length]) for at in range(len(evidence) - length + 1)}
        copied = set()
        for at in range(len(ids) - length + 1):
            if tuple(ids[at : at + length]) in known:
                copied |= set(range(at, at + length))
        for at in copied:
            levels[at] += 1
    types = []
    for token, sentence, level in zip(ids, sentences, levels, strict=True):
        own = [one for one, of in zip(ids, sentences, strict=True) if of == sentence]
        best = max(vocabulary.values(), key=lambda held: sum(one in held for one in own))
        types.append(_FIRST + level + _LEVELS * (token in best))
    return types


def plain_features(types: Sequence[int], scale: float) -> list[float]:
    """What the heads read of a unit beside its hidden state, from the types of its tokens.

    scale: of the shares; the last number is the logarithm of the count.
    """
    known = [divmod(kind - _FIRST, _LEVELS) for kind in types if kind >= _FIRST]  # (best, level)
    counts = [
        sum(kind == NO_CONTEXT for kind in types),
        *(sum(level > at for _, level in known) for at in range(len(LENGTHS))),
        sum(best for best, _ in known),
    ]
    return [scale * count / len(types) for count in counts] + [math.log(len(types))]


def _tokens(tokenizer: Any, text: str, starts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Token ids, and the sentence each belongs to: that of its last character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = [sum(start <= end - 1 for start in starts) - 1 for _, end in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), places
