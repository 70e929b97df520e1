"""Short contexts for training: the sentences of the passages that bear on the responses, in their order.

Rows with all of the passages cost three times as much and teach little more; what must not go missing is
the evidence for and against what the responses say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tureen.contracts import Granularity
from tureen.text.segments import segment

_WORD = re.compile(
    r"\d+|\w{4,}"
)  # content words, roughly: numbers, and words of four letters or more


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, white space made single."""
    return [
        piece
        for span in segment(text, Granularity.SENTENCE)
        if (piece := " ".join(text[span.start : span.end].split()))
    ]


def words_of(text: str) -> set[str]:
    """The content words of a text, in lower case."""
    return set(_WORD.findall(text.lower()))


def share(sentence: str, words: set[str]) -> float:
    """Share of the content words of `sentence` that are among `words`; 0 where it has none."""
    own = words_of(sentence)
    return len(own & words) / len(own) if own else 0.0


def focus(context: Sequence[str], responses: Sequence[str], max_words: int) -> tuple[str, ...]:
    """At most `max_words` of context: sentences in the order of how much of them some response says.

    Sentences keep their passage and their order; passages without any left are dropped.
    """
    said = [words_of(response) for response in responses]
    pieces = [(p, sentence) for p, text in enumerate(context) for sentence in sentences_of(text)]
    closeness = [max(share(sentence, words) for words in said) for _, sentence in pieces]
    kept: set[int] = set()
    left = max_words
    for index in sorted(range(len(pieces)), key=lambda i: -closeness[i]):
        length = len(pieces[index][1].split())
        if length <= left:
            kept.add(index)
            left -= length
    return tuple(
        " ".join(pieces[i][1] for i in sorted(kept) if pieces[i][0] == p)
        for p in range(len(context))
        if any(pieces[i][0] == p for i in kept)
    )
