"""Transcripts of dialogues, as data sets write them, to messages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tureen.contracts import Message


def split_turns(transcript: str, speakers: Mapping[str, str]) -> tuple[str, tuple[Message, ...]]:
    """What stands before the first turn, and the turns in order.

    A turn begins at the start of a line with the speaker's name and a colon. Blank turns are left out and turns of
    one speaker in a row become one, because chat templates know neither.

    Args:
        speakers: name in the transcript -> role.
    """
    begins = re.compile(rf"(?:\A|\n)({'|'.join(map(re.escape, speakers))}):")
    before, *turns = begins.split(transcript)
    messages: list[Message] = []
    for speaker, text in zip(turns[::2], turns[1::2], strict=True):
        role, content = speakers[speaker], text.strip()
        if not content:
            continue
        if messages and messages[-1].role == role:
            content = f"{messages.pop().content}\n\n{content}"
        messages.append(Message(role=role, content=content))
    return before, tuple(messages)
