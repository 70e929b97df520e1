"""Whether rows begin with the beginning of sequence once, as the model has learned to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tureen.text.encoding import EncodedResponse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class BeginTokens:
    """
    bos_id: what a row begins with, if the tokenizer has a token for that; BERT calls it [CLS].
    added: whether the tokenizer itself puts it before a text.
    """

    bos_id: int | None
    added: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> BeginTokens:
        bos_id = tokenizer.bos_token_id
        bos_id = bos_id if bos_id is not None else tokenizer.cls_token_id
        if not isinstance(bos_id, int):
            return cls(None, added=False)
        return cls(bos_id, added=tokenizer.encode("a")[0] == bos_id)

    def count(self, responses: Sequence[EncodedResponse]) -> tuple[int, int]:
        """Of the responses, those that begin with it twice, or came so, and those without it."""
        firsts = [response.windows[0].input_ids[:2].tolist() for response in responses]
        twice = [
            response.doubled_bos or first == [self.bos_id, self.bos_id]
            for response, first in zip(responses, firsts, strict=True)
        ]
        return sum(twice), sum(self.added and first[0] != self.bos_id for first in firsts)
