"""What bodies of other systems have in common: texts, messages, flags.

Fields that are not listed are ignored, as their own servers do; but a field that would change the
score is refused when its value asks for something, because an ignored one would change what the
number means without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tureen.contracts import Message, Sample, Truncate
from tureen.errors import InvalidRequest, quoted
from tureen.text.written import SpecialTokens, Split, TokenIds, Transcript, split

OPEN = {"extra": "allow", "strict": True, "allow_inf_nan": False}
"""Of pydantic: fields that are not listed stay in `vars` of the body."""

_SCORE_CHANGING: Final = re.compile(
    "activat|softmax|sigmoid|normali|logit|templat|truncat|raw_|scale|calibrat|instruct|dimension|"
    "weight|heads|aggregat|penalt|temperature|prefix|suffix|max_tok|max_len|max_chunk|rank_fields|"
    "task|pooling"
)

Ids = tuple[int, ...]
_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_IDS: Final = {"type": "array", "items": {"type": "integer", "minimum": 0}}


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


def _strings(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise PydanticCustomError("strings", "a string or an array of strings")


def _texts_or_ids(value: Any) -> tuple[str | Ids, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        if all(isinstance(one, str) for one in value):
            return tuple(value)
        if _is_ids(value):
            return (tuple(value),)
        if all(_is_ids(one) for one in value):
            return tuple(tuple(one) for one in value)
    raise PydanticCustomError(
        "texts", "a string, an array of strings, an array of token ids, or an array of such arrays"
    )


Strings = Annotated[
    Any, AfterValidator(_strings), WithJsonSchema({"anyOf": [{"type": "string"}, _STRINGS]})
]
"""str, or tuple[str, ...] where an array came."""

TextsOrIds = Annotated[
    Any,
    AfterValidator(_texts_or_ids),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, _STRINGS, _IDS, {"type": "array", "items": _IDS}]}
    ),
]
"""tuple[str | Ids, ...]."""


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    __pydantic_config__ = OPEN
    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class ModelBody:
    __pydantic_config__ = OPEN
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationBody(ModelBody):
    """use_activation, activation, softmax: one flag, which vLLM renamed twice."""

    use_activation: bool | None = None
    activation: bool | None = None
    softmax: bool | None = None

    def activation_asked(self) -> bool | None:
        """Whether the reward is to go through a sigmoid; None where the request does not say.

        Raises:
            InvalidRequest: two names of the flag say different things.
        """
        given = {
            name: value
            for name in ("use_activation", "activation", "softmax")
            if (value := getattr(self, name)) is not None
        }
        if len(set(given.values())) > 1:
            raise InvalidRequest(
                f"{', '.join(given)} contradict each other; they are names of one flag; send one.",
                field=next(iter(given)),
            )
        return next(iter(given.values()), None)


def _asks(value: object) -> bool:
    """Whether the value of a field that is not listed wants anything."""
    return value not in (None, False, "", [], {})


def extras(body: object) -> dict[str, Any]:
    """The fields that were sent and are not listed."""
    listed = {field.name for field in fields(body)}  # pyright: ignore[reportArgumentType]
    return {name: value for name, value in vars(body).items() if name not in listed}


def refuse_score_changing(body: object) -> None:
    """
    Raises:
        InvalidRequest: a field that is not listed would change the score.
    """
    for name, value in extras(body).items():
        if _asks(value) and _SCORE_CHANGING.search(name.lower()):
            raise InvalidRequest(
                f"{quoted(name)} would change the score and is not offered here; known fields are "
                f"{', '.join(sorted(field.name for field in fields(body)))}; leave it out.",  # pyright: ignore[reportArgumentType]
                field=name,
            )


def refuse(name: str, wanted: str) -> InvalidRequest:
    """Of a field whose value asks for something that is not offered."""
    return InvalidRequest(f"{name} asks for what is not offered; {wanted}.", field=name)


def conversation(messages: Sequence[ChatMessage]) -> Sample:
    """The last turn, which is the assistant's, is the response."""
    for index, message in enumerate(messages):
        for name, value in extras(message).items():
            if _asks(value):
                wanted = "a message has role and content: text"
                raise refuse(f"messages[{index}].{name[:40]}", wanted)
    if len(messages) < 2 or messages[-1].role != "assistant":
        last = f"the {messages[-1].role}'s"[:40] if messages else "not there"
        raise InvalidRequest(
            f"the last of {len(messages)} messages is {last}; it must be the assistant's, after at "
            "least one other: it is what is scored.",
            field="messages",
        )
    return Sample(
        messages=tuple(Message(role=one.role, content=one.content) for one in messages[:-1]),
        responses=(messages[-1].content,),
    )


def transcript(
    text: str | Ids, special_tokens: SpecialTokens, prompt: str | None = None
) -> tuple[Sample, Split]:
    """A text in which prompt and response are one; `prompt` where the client told it apart."""
    if not isinstance(text, str):
        return TokenIds(responses=("",), ids=text), "whole"
    before, response, how = split(text, prompt)
    return Transcript(prompt=before, responses=(response,), special_tokens=special_tokens), how


@dataclass(frozen=True, slots=True)
class LongestText:
    """A text of more tokens is refused: it is cut to what the model takes, or not at all."""

    field: str
    tokens: int


def truncation_to(
    tokens: int | None, field: str, most: int
) -> tuple[Truncate, tuple[LongestText, ...]]:
    """Of a field that cuts inputs from the left, to so many tokens or (-1) to what the model takes.

    Raises:
        InvalidRequest: no number of tokens.
    """
    if tokens is None:
        return Truncate.NEVER, ()
    if tokens == -1 or tokens >= most:
        return Truncate.PROMPT, ()
    if tokens < 1:
        raise InvalidRequest(
            f"{field} is {tokens}; it must be at least 1, or -1 for the {most} tokens of the model; "
            "send that, or leave it out.",
            field=field,
            got=tokens,
            limit=most,
        )
    return Truncate.NEVER, (LongestText(field, tokens),)
