"""The policy's own tokens as character offsets of the response, and rewards of offsets as rewards of tokens.

The service takes ascending, disjoint offsets. Tokens need not be that: of a character of several tokens each claims the
whole of it, or none but the last; the end of text stands for nothing. Such tokens go to the service as one, and what
it is given comes back to the last of them. So the reward at the end of a response falls on the end of text, the
choice that it depends on: one token earlier, ending would be neither praised nor blamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tureen.text.segments import Span


def decoded(tokenizer: Tokenizer, token_ids: Sequence[int]) -> tuple[str, list[Span]]:
    """The text of a response, and for each token the characters that it brought.

    White space at the start of the text belongs to none. Special tokens bring nothing, nor does a token that is only a
    part of a character, whose last token brings it.
    """
    stream = DecodeStream(skip_special_tokens=True)
    text, ends = "", []
    for token in token_ids:
        text += stream.step(tokenizer, token) or ""
        ends.append(len(text))
    whole = tokenizer.decode(list(token_ids), skip_special_tokens=True)
    if ends and whole != text:
        text = whole  # it breaks off inside a character, which the last token is given
        ends[-1] = len(text)
    lead = len(text) - len(text.lstrip())
    edges = [0, *(max(0, end - lead) for end in ends)]
    return text[lead:], [Span(*edge) for edge in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Alignment:
    """offsets: for the service, ascending, disjoint, none empty; tokens: which token each of them pays. As long."""

    offsets: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]


def align(spans: Sequence[tuple[int, int]]) -> Alignment:
    """Offsets of a response's tokens, from what each token says of itself.

    Args:
        spans: half-open ranges of characters in the order of the tokens, neither end before that of the token
            before; they may overlap, leave gaps and be empty.

    Returns:
        Nothing where every span is empty.

    Raises:
        ValueError: the spans do not ascend.
    """
    offsets: list[tuple[int, int]] = []
    tokens: list[int] = []
    begun = 0
    for token, (start, end) in enumerate(spans):
        if start < begun or end < start or (offsets and end < offsets[-1][1]):
            raise ValueError(
                f"token {token} stands for characters [{start}, {end}) after {list(spans[:token])[-2:]}; the spans "
                "of a response's tokens ascend"
            )
        begun = start
        if start == end:
            continue
        if offsets and start < offsets[-1][1]:  # a further token of the same character
            offsets[-1] = (offsets[-1][0], end)
            tokens[-1] = token
        else:
            offsets.append((start, end))
            tokens.append(token)
    if tokens:
        tokens[-1] = len(spans) - 1
    return Alignment(tuple(offsets), tuple(tokens))


def spread(alignment: Alignment, token_rewards: Sequence[float], tokens: int) -> list[float]:
    """The service's rewards of the offsets as rewards of the policy's tokens; their sum stays what it was.

    Args:
        token_rewards: one an offset of the alignment.
        tokens: of the response, the end of text among them.

    Raises:
        ValueError: not one an offset.
    """
    if len(token_rewards) != len(alignment.offsets):
        raise ValueError(
            f"{len(token_rewards)} token rewards for {len(alignment.offsets)} offsets; a service gives one each"
        )
    rewards = [0.0] * tokens
    for token, reward in zip(alignment.tokens, token_rewards, strict=True):
        rewards[token] += reward
    return rewards
