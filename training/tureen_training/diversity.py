"""How different responses are from one another, and how often one repeats itself.

A response is the list of its tokens. Compare figures only at one tokenizer, temperature, length and number of
responses. Two ways to collect them (Kirk et al., arXiv:2310.06452): per input, over several responses to one prompt,
averaged over prompts; across inputs, over one response to each prompt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

Tokens = Sequence[int] | Sequence[str]
Gram = tuple[int | str, ...]


def distinct(responses: Iterable[Tokens], n: int) -> float | None:
    """Different n-grams / n-grams of all responses (Li et al., arXiv:1510.03055); falls with the length of text.

    None where no response has n tokens.
    """
    grams = Counter(chain.from_iterable(_grams(tokens, n) for tokens in responses))
    return len(grams) / grams.total() if grams else None


def expectation_adjusted_distinct(
    responses: Iterable[Tokens], n: int, vocabulary: int
) -> float | None:
    """Different n-grams / the number expected of as many drawn at random (Liu et al., arXiv:2202.13587).

        EAD = N / (V · [1 − ((V − 1) / V)^C]),   N different n-grams, C n-grams

    Does not fall with the length of text, as `distinct` does. May exceed 1.

    Args:
        vocabulary: V, tokens that the policy can choose from.
    """
    grams = Counter(chain.from_iterable(_grams(tokens, n) for tokens in responses))
    if not grams:
        return None
    expected = -vocabulary * math.expm1(grams.total() * math.log1p(-1 / vocabulary))
    return len(grams) / expected


def bleu(response: Tokens, references: Sequence[Tokens], longest: int = 4) -> float:
    """BLEU of one response (Papineni et al. 2002): geometric mean of clipped n-gram precisions × brevity penalty.

    A precision of 0 counts as 1 / 2^k of one n-gram, the k-th time there is one (smoothing 3 of Chen and Cherry
    2014), because short responses often have one. n-grams longer than the response are left out.
    """
    if not response or not references:
        raise ValueError("BLEU needs a response with tokens and at least one reference")
    most: list[Counter[Gram]] = [Counter() for _ in range(longest)]
    for n, counts in enumerate(most, start=1):
        for reference in references:
            counts |= Counter(_grams(reference, n))
    own = [Counter(_grams(response, n)) for n in range(1, longest + 1)]
    return _bleu(own, most, len(response), [len(reference) for reference in references])


def _bleu(
    own: Sequence[Counter[Gram]], most: Sequence[Counter[Gram]], length: int, others: Sequence[int]
) -> float:
    """own, most: for each n, how often the response has an n-gram, and a reference at most. others: their lengths."""
    logs: list[float] = []
    halving = 1.0
    for counts, limits in zip(own[:length], most, strict=False):
        matched = (counts & limits).total()
        if not matched:
            halving /= 2
        logs.append(math.log((matched or halving) / counts.total()))
    closest = min((abs(other - length), other) for other in others)[1]
    brevity = min(0.0, 1 - closest / length)
    return math.exp(brevity + sum(logs) / len(logs))


def self_bleu(responses: Sequence[Tokens], longest: int = 4) -> float | None:
    """Mean BLEU of each response against the others (Zhu et al., arXiv:1802.01886); lower is more diverse.

    Empty responses are left out; None where fewer than two are left.
    """
    written = [tokens for tokens in responses if tokens]
    if len(written) < 2:
        return None
    own = [[Counter(_grams(tokens, n)) for n in range(1, longest + 1)] for tokens in written]
    lengths = [len(tokens) for tokens in written]
    scores = [
        _bleu(own[i], most, lengths[i], lengths[:i] + lengths[i + 1 :])
        for i, most in enumerate(_most_of_others(own))
    ]
    return sum(scores) / len(scores)


def _most_of_others(own: Sequence[Sequence[Counter[Gram]]]) -> list[list[Counter[Gram]]]:
    """For each response, and each n, how often one other response has each of its n-grams at most."""
    found: list[list[Counter[Gram]]] = [[] for _ in own]
    for of_all in zip(*own, strict=True):
        top: dict[Gram, tuple[int, int, int]] = {}  # most, whose, and the most of the others
        for i, counts in enumerate(of_all):
            for gram, count in counts.items():
                most, whose, second = top.get(gram, (0, i, 0))
                if count > most:
                    top[gram] = count, i, most
                elif count > second:
                    top[gram] = most, whose, count
        for i, counts in enumerate(of_all):
            limits = {gram: top[gram][2 if top[gram][1] == i else 0] for gram in counts}
            found[i].append(Counter(limits))
    return found


def repeated(tokens: Tokens, n: int) -> float:
    """Share of a response's n-grams that stood in it before; 0 where it has none."""
    grams = list(_grams(tokens, n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def identical(responses: Sequence[str]) -> float:
    """Share of responses that another one equals to the letter."""
    counts = Counter(responses)
    return sum(n for n in counts.values() if n > 1) / len(responses) if responses else 0.0


def _grams(tokens: Tokens, n: int) -> Iterable[Gram]:
    return zip(*(tokens[i:] for i in range(n)), strict=False)
