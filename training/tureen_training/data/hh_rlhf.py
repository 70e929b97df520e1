"""Reader of HH-RLHF (Bai et al. 2022, arXiv:2204.05862): which of two continuations of a dialogue people chose.

A record holds two transcripts, `chosen` and `rejected`; they share everything up to the last "Assistant:". The
release and its copy on the hub have nothing else; our copies add `id`, `conversation_id` (pairs with the same first
turn) and `prompt_end` (length of the shared part).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tureen_training.data.dialogue import split_turns
from tureen_training.data.jsonl import Fields, Seen, records, stem_of
from tureen_training.data.records import Comparison, Example, Pair, group_of

_SPEAKERS = {"\nHuman": "user", "\nAssistant": "assistant"}  # a blank line stands before a turn
_LAST = "\n\nAssistant:"


def read_hh(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    """Yields the pairs one by one; raises `BadData`.

    Args:
        skipped: counts the pairs left out, by reason: blank or identical responses, and transcripts that part
            before their last turn, so that more than the response differs.
    """
    seen = Seen("id")
    for fields in records(path):
        name = fields.optional_text("id") or _name(path, fields.index)
        seen.add(name, fields)
        texts = fields.text("chosen"), fields.text("rejected")
        end = _prompt_end(fields, *texts)
        before, messages = split_turns(texts[0][: end - len(_LAST)], _SPEAKERS)
        if before.strip() or not messages or messages[-1].role != "user":
            raise fields.bad("the shared part must begin with a Human turn and end in one")
        responses = texts[0][end:].strip(), texts[1][end:].strip()
        if not all(responses):
            skipped["blank response"] += 1
        elif responses[0] == responses[1]:
            skipped["identical responses"] += 1
        elif any("\n\nHuman:" in response for response in responses):
            skipped["transcripts part before the last turn"] += 1
        else:
            yield Example(
                prompt_id=name,
                origin=origin,
                messages=messages,
                responses=responses,
                pairs={Comparison.PREFERENCE: (Pair(0, 1),)},
                group=fields.optional_text("conversation_id") or group_of(messages[0].content),
            )


def _name(path: Path, index: int) -> str:
    """As in our copies: the hub keeps `harmless-base/test`, which becomes hh-harmless-base-test-00000."""
    return f"hh-{path.parent.name}-{stem_of(path)}-{index:05d}"


def _prompt_end(fields: Fields, chosen: str, rejected: str) -> int:
    """Length of the shared part with the "Assistant:" that ends it."""
    end = fields.optional("prompt_end", int)
    if end is None:
        start = _shared(chosen, rejected).rfind(_LAST)
        if start < 0:
            raise fields.bad(
                "'chosen' and 'rejected' do not share a prompt that ends in 'Assistant:'"
            )
        return start + len(_LAST)
    if end < 0 or chosen[:end] != rejected[:end] or not chosen[:end].endswith(_LAST):
        raise fields.bad(
            f"prompt_end is {end}, but 'chosen' and 'rejected' do not share that much, "
            "or it does not end in 'Assistant:'"
        )
    return end


def _shared(first: str, second: str) -> str:
    """The longest common beginning of two texts."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return first[:low]
