"""How a response is cut into the units its heads speak about.

The rule is part of a model: heads are trained on its units and served on its units, so `SEGMENTER`
names it, manifests store the name, and a model made under another rule is refused.

The sub-sentence rule is that of Fine-Grained RLHF (Wu et al. 2023, arXiv:2306.01693). Deviations:
sentences come from sentencex instead of spaCy; a closing quote or bracket stays with the mark it
follows; full-width and Arabic marks cut too; words of scripts written without spaces are estimated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

from sentencex import get_sentence_boundaries  # pyright: ignore[reportAttributeAccessIssue] no stubs

from tureen.contracts import Granularity

SEGMENTER: Final = "sentencex-1"
"""Name and version of the rule; changes whenever any text would be cut differently."""

MIN_WORDS: Final = 5
"""A sub-sentence has at least so many words, and more than so many follow a cut in its sentence."""

_CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = _CJK + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # and Thai, Lao, Myanmar, Khmer
_UNSPACED_WORD_LETTERS = 2  # mean length of a word in running Chinese and Japanese
_CJK_LETTER = re.compile(f"[{_CJK}]")
_WORD = re.compile(rf"([{_UNSPACED}]+)|[^\s{_UNSPACED}]+")

_ASCII_MARKS = ",;!?"
_ARABIC_MARKS = "\u060c\u061b\u061f"
_WIDE_MARKS = "\u3001\uff0c\uff1b\uff01\uff1f"  # ideographic comma, full-width , ; ! ?
_CLOSERS = "[\"'\u201d\u2019\u00bb)\\]}\u300d\u300f\u3011\u300b\u3009\uff09\uff3d\uff5d]*"
# ASCII and Arabic marks end a token only before space (not in 1,000), or after an unspaced script.
# The group takes a run of them that ends nothing whole, else it would be tried from each of its
# marks; so "possessive" +.
_MARKS = rf"[{_ASCII_MARKS}{_ARABIC_MARKS}]++{_CLOSERS}+"
_SUB_SENTENCE_END = re.compile(
    rf"{_MARKS}(?=\s)"
    rf"|(?:[{_WIDE_MARKS}]|(?<=[{_UNSPACED}])[{_ASCII_MARKS}])"
    rf"[{_WIDE_MARKS}{_ASCII_MARKS}]*{_CLOSERS}"
    rf"|({_MARKS})"
)
_LIST_ITEM = re.compile(r"[\r\n](?=[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+\S)")
_JOINERS = frozenset("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")


class Span(NamedTuple):
    """Half-open range of Unicode code points."""

    start: int
    end: int

    def shifted(self, by: int) -> Span:
        return Span(self.start + by, self.end + by)


def segment(text: str, granularity: Granularity) -> list[Span]:
    """The units of `text`, in order. They tile it: from 0 to len(text), no gaps, none empty.

    White space belongs to the unit before it (at the very start, to the first), and so do combining
    marks and joiners: a unit starts with something to read. No text, no units.

    RESPONSE: the whole text.
    SENTENCE: sentencex, which keeps quotes and parentheses whole; a list item that stands on a line
        of its own starts a sentence.
    SUB_SENTENCE: a sentence is cut after a token that ends in , ; ! ? (or a full-width or Arabic
        one of them) if at least 5 words stand before it since the last cut and more than 5 remain;
        so a short piece is merged into the next. A word is what stands between spaces; where a
        script is written without them (Han, kana, Thai, …) a run of n letters is ⌈n/2⌉ words.
    """
    return Pieces(text).of(granularity)


class Pieces:
    """The units of one text, as `segment` cuts it, for whoever asks for more than one granularity."""

    def __init__(self, text: str) -> None:
        self.text = text

    def of(self, granularity: Granularity) -> list[Span]:
        if not self.text:
            return []
        if granularity is Granularity.RESPONSE:
            return [Span(0, len(self.text))]
        if granularity is Granularity.SENTENCE:
            return self._sentences
        return [
            piece for sentence in self._sentences for piece in _sub_sentences(self.text, sentence)
        ]

    @cached_property
    def _sentences(self) -> list[Span]:
        return _tile(self.text, _sentence_cuts(self.text))


def _sentence_cuts(text: str) -> list[int]:
    cuts = {piece["start_index"] for piece in get_sentence_boundaries(_language(text), text)}
    cuts.update(newline.end() for newline in _LIST_ITEM.finditer(text))
    return sorted(cuts)


def _language(text: str) -> str:
    """Japanese where half of the letters or more are Han or kana, else English.

    sentencex knows the marks of every script under either name; the name decides on abbreviations.
    """
    if text.isascii():
        return "en"
    return "ja" if 2 * len(_CJK_LETTER.findall(text)) >= sum(map(str.isalpha, text)) else "en"


def _tile(text: str, cuts: Iterable[int], start: int = 0, end: int | None = None) -> list[Span]:
    """Spans that tile text[start:end]; each of `cuts` (ascending) moves on to what can be read."""
    end = len(text) if end is None else end
    moved = _readable(text, start, end)
    edges = [start]
    for cut in cuts:
        if cut <= moved:  # nothing to read between the two
            continue
        moved = _readable(text, cut, end)
        if moved >= end:
            break
        edges.append(moved)
    return [Span(*edge) for edge in pairwise([*edges, end])]


def _readable(text: str, index: int, end: int) -> int:
    """The first index from `index` on that is no white space and adds nothing to what is before."""
    while index < end and (
        (character := text[index]).isspace()
        or character in _JOINERS
        or unicodedata.category(character).startswith("M")
    ):
        index += 1
    return index


def _sub_sentences(text: str, sentence: Span) -> list[Span]:
    found = _SUB_SENTENCE_END.finditer(text, sentence.start, sentence.end)
    marks = [mark for mark in found if mark[1] is None]
    if not marks:
        return [sentence]
    edges = [sentence.start, *(mark.end() for mark in marks), sentence.end]
    words = [_words(text, *edge) for edge in pairwise(edges)]
    cuts: list[int] = []
    since_cut, remaining = 0, sum(words)
    for mark, count in zip(marks, words, strict=False):
        since_cut += count
        remaining -= count
        if since_cut >= MIN_WORDS and remaining > MIN_WORDS:
            cuts.append(mark.end())
            since_cut = 0
    return _tile(text, cuts, *sentence)


def _words(text: str, start: int, end: int) -> int:
    if text.isascii():
        return len(text[start:end].split())
    return sum(
        -(-len(run[1]) // _UNSPACED_WORD_LETTERS) if run[1] else 1
        for run in _WORD.finditer(text, start, end)
    )
