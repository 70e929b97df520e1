"""Which passage sentences an answer states: the lexical matching behind the completeness labels.

Fine-Grained RLHF (Wu et al. 2023, arXiv:2306.01693, appendix on R3) matches each sub-sentence of an answer to
the passage sentence with the highest quick ratio over word n-grams, and counts it as stated from 0.85 on.
The quick ratio of two strings is 2·|multiset of shared characters| / (length of both).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tureen.contracts import Granularity
from tureen.text.segments import segment

STATED = 0.85
_BINS = 256  # characters are counted by code point modulo this: exact for Latin text


def _counts(text: str) -> np.ndarray:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.bincount(points % _BINS, minlength=_BINS)  # (256,)


@lru_cache(maxsize=512)  # all answers to a question are held against the same sentences
def _running(sentence: str) -> np.ndarray:
    """Counts of the characters before each word of a sentence and after its last. (words + 1, 256)"""
    words = sentence.split()
    running = np.zeros((len(words) + 1, _BINS), dtype=np.int64)
    np.cumsum([_counts(word + " ") for word in words], axis=0, out=running[1:])
    return running


def similarity(unit: str, sentence: str) -> float:
    """Best quick ratio of `unit` with any run of as many words (plus 5 %) of `sentence`, in [0, 1]."""
    unit = " ".join(unit.split())
    words = sentence.split()
    if not unit or not words:
        return 0.0
    if unit in " ".join(words):
        return 1.0
    length = len(unit.split())
    n = length + int(0.05 * length)
    running = _running(sentence)
    if n >= len(running):  # a short sentence is padded, so it can match at most in part
        padding = np.arange(1, n - len(running) + 2)[:, None] * _counts("# ")
        running = np.concatenate([running, running[-1] + padding])
    windows = running[n:] - running[:-n]  # (W, 256), each with one blank too many
    windows[:, ord(" ")] -= 1
    own = _counts(unit)
    shared = np.minimum(windows, own).sum(axis=1)
    return float((2 * shared / (windows.sum(axis=1) + own.sum())).max())


def stated(answer: str, sentences: Sequence[str]) -> set[int]:
    """Indices of the passage sentences that some sub-sentence of `answer` states."""
    found: set[int] = set()
    for span in segment(answer, Granularity.SUB_SENTENCE):
        unit = answer[span.start : span.end]
        scores = [similarity(unit, sentence) for sentence in sentences]
        if scores and max(scores) >= STATED:
            found.add(int(np.argmax(scores)))
    return found
