"""The templates `evidence` and `evidence-2` by their definitions (`tureen.text.evidence`,
`tureen.text.unit_features`), one token at a time: no codes, no arrays.

What `tureen doctor` holds against the rows and the features that are served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
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
    ids, sentences = _tokens(tokenizer, response, _starts(response, Granularity.SENTENCE))
    evidence, passages = _tokens(tokenizer, context, template.context_sentences(sample, "evidence"))
    if not evidence:  # no context, or none that is read
        return [NO_CONTEXT] * len(ids)
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


def plain_unit_features(tokenizer: Any, sample: Sample, response: str) -> list[list[float]]:
    """What is counted about each sub-sentence, in their order."""
    prompt, _ = template.render_evidence(sample)
    asked = dict(_with_characters(tokenizer, prompt))
    ids, sentences = _tokens(tokenizer, response, _starts(response, Granularity.SENTENCE))
    _, pieces = _tokens(tokenizer, response, _starts(response, Granularity.SUB_SENTENCE))
    sizes = [size for _, size in _with_characters(tokenizer, response)]
    pairs = list(pairwise(ids))
    held = {}  # of each sentence, the share of the prompt that stands in it
    for sentence in sentences:
        words = {token for token, of in zip(ids, sentences, strict=True) if of == sentence}
        held[sentence] = sum(asked[token] for token in asked.keys() & words)
        held[sentence] /= max(1, sum(asked.values()))
    rows = []
    for piece in sorted(set(pieces)):
        inside = [place for place, of in enumerate(pieces) if of == piece]
        first, sentence = inside[0], sentences[inside[0]]
        before = sorted(set(pieces[:first]))
        rows.append(
            [
                math.log(1 + len(before)),
                math.log(1 + sum(sentences[pieces.index(one)] == sentence for one in before)),
                math.log(len(set(sentences))),
                math.log(sentences.count(sentence)),
                sum(sizes[place] for place in inside if ids[place] in asked)
                / sum(sizes[place] for place in inside),
                held[sentence] - max(held.values()),
                sum(ids[place] in ids[:first] for place in inside) / len(inside),
                sum(pairs[place] in pairs[:first] for place in inside[:-1])
                / max(1, len(inside) - 1),
            ]
        )
    return rows


def _starts(text: str, granularity: Granularity) -> list[int]:
    return [span.start for span in segment(text, granularity)]


def _with_characters(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Token ids, and how many characters each has."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    sizes = [end - start for start, end in encoded["offset_mapping"]]
    return list(zip(encoded["input_ids"], sizes, strict=True))


def _tokens(tokenizer: Any, text: str, starts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Token ids, and the sentence each belongs to: that of its last character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = [sum(start <= end - 1 for start in starts) - 1 for _, end in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), places
