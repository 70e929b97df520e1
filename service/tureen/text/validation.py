"""What a sample must be before any model reads it; every door and every model share these rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tureen.contracts import Message, Sample
from tureen.errors import InvalidRequest


def validate(sample: Sample) -> None:
    """
    Raises:
        InvalidRequest: the sample cannot be scored; with the path of the first field at fault.
    """
    _validate_shape(sample)
    validate_texts(sample)
    if sample.prompt is not None:
        _refuse_blank("prompt", sample.prompt, "send what the response answers")
    if sample.messages is not None:
        _refuse_blank(
            "messages",
            "".join(message.content for message in sample.messages),
            "send what the response answers",
        )
    if sample.offsets is not None:
        _validate_offsets(sample.offsets, sample.responses)


def validate_texts(sample: Sample) -> None:
    """
    Raises:
        InvalidRequest: a text of the sample is no valid Unicode, or a response is blank.
    """
    for field, text in _texts(sample):
        _validate_unicode(field, text)
    for index, response in enumerate(sample.responses):
        _refuse_blank(f"responses[{index}]", response, "generate it again or leave it out")


def _validate_shape(sample: Sample) -> None:
    if (sample.prompt is None) == (sample.messages is None):
        given = "neither" if sample.prompt is None else "both"
        raise InvalidRequest(
            f"{given} of prompt and messages given; a sample has exactly one; "
            + ("add one." if given == "neither" else "remove one."),
            field="prompt",
            got=given,
            limit="exactly one of prompt, messages",
        )
    for name in ("context", "responses"):
        if isinstance(getattr(sample, name), str):
            raise InvalidRequest(
                f"{name} is one string; it is a list of strings; put it in a list.",
                field=name,
                got="string",
                limit="list of strings",
            )
    if not sample.responses:
        raise InvalidRequest(
            "responses is empty; a sample has at least 1 to score; add one.",
            field="responses",
            got=0,
            limit=1,
        )
    if sample.messages is not None:
        _validate_messages(sample.messages)


def _validate_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidRequest(
            "messages is empty; a conversation has at least 1; add one, or send prompt instead.",
            field="messages",
            got=0,
            limit=1,
        )
    for index, message in enumerate(messages):
        _refuse_blank(f"messages[{index}].role", message.role, "name who speaks")
    if messages[-1].role == "assistant":
        last = len(messages) - 1
        raise InvalidRequest(
            f"messages[{last}] is the assistant's; messages end before the response; move its "
            "content to responses.",
            field=f"messages[{last}].role",
            got="assistant",
            limit="not assistant",
        )


def _texts(sample: Sample) -> Iterator[tuple[str, str]]:
    if sample.prompt is not None:
        yield "prompt", sample.prompt
    for index, message in enumerate(sample.messages or ()):
        yield f"messages[{index}].role", message.role
        yield f"messages[{index}].content", message.content
    for index, passage in enumerate(sample.context):
        yield f"context[{index}]", passage
    for index, response in enumerate(sample.responses):
        yield f"responses[{index}]", response


def _validate_unicode(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = f"U+{ord(text[error.start]):04X}"
        raise InvalidRequest(
            f"{field} holds the lone surrogate {surrogate} at character {error.start}; text is "
            "valid Unicode; mend the decoding that cut a character in two.",
            field=field,
            got=surrogate,
            limit="valid Unicode",
        ) from None
    if "\0" in text:
        raise InvalidRequest(
            f"{field} holds U+0000 at character {text.index(chr(0))}; text has no NUL; remove it.",
            field=field,
            got="U+0000",
            limit="no U+0000",
        )


def _refuse_blank(field: str, text: str, remedy: str) -> None:
    if not text.strip():
        raise InvalidRequest(
            f"{field} is blank ({len(text)} characters of white space); it needs text; {remedy}.",
            field=field,
            got="blank",
            limit="text",
        )


def _validate_offsets(
    offsets: Sequence[Sequence[tuple[int, int]] | None], responses: Sequence[str]
) -> None:
    if len(offsets) != len(responses):
        raise InvalidRequest(
            f"offsets has {len(offsets)} entries for {len(responses)} responses; it has one for "
            "each (null where none are wanted); match them.",
            field="offsets",
            got=len(offsets),
            limit=len(responses),
        )
    for index, (spans, response) in enumerate(zip(offsets, responses, strict=True)):
        if spans is None:
            continue
        field = f"offsets[{index}]"
        if not spans:
            raise InvalidRequest(
                f"{field} is empty; rewards need at least 1 token to land on; send spans or null.",
                field=field,
                got=0,
                limit=1,
            )
        for position, (start, end) in enumerate(spans):
            if not 0 <= start <= end <= len(response):
                raise InvalidRequest(
                    f"{field}[{position}] is [{start}, {end}]; a span has 0 <= start <= end <= "
                    f"{len(response)}, the length of responses[{index}] in Unicode code points; "
                    "count those, not bytes or UTF-16 units.",
                    field=f"{field}[{position}]",
                    got=f"[{start}, {end}]",
                    limit=len(response),
                )
        for position, (before, after) in enumerate(pairwise(spans), start=1):
            if after[0] < before[1]:
                raise InvalidRequest(
                    f"{field}[{position}] starts at {after[0]}, before its predecessor ends at "
                    f"{before[1]}; spans are ascending and disjoint; sort them and give shared "
                    "characters to one token.",
                    field=f"{field}[{position}]",
                    got=after[0],
                    limit=before[1],
                )
