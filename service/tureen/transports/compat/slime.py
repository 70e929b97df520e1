"""slime: `--rm-type remote_rm --rm-url http://host:8080/rm`; the whole body of the answer is the reward.

The client posts one sample at a time, and its 120 s begin while it waits for one of its own 64
connections: a request waits for a server that is loading or full for half of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tureen.contracts import Message, Priority, Sample
from tureen.text.written import Transcript, without_ending
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import OPEN
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import NATIVE
from tureen.transports.json_body import JsonBody

HOLD_S = 60.0
_TEXT = {"type": "string"}
_MESSAGE = {
    "type": "object",
    "properties": {"role": _TEXT, "content": _TEXT},
    "required": ["role", "content"],
}


def _prompt(value: Any) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, list) and all(
            isinstance(one["role"], str) and isinstance(one["content"], str) for one in value
        ):
            return tuple(Message(role=one["role"], content=one["content"]) for one in value)
    except (KeyError, TypeError):
        pass
    raise PydanticCustomError("prompt", "a string, or an array of objects with role and content")


Prompt = Annotated[
    Any,
    AfterValidator(_prompt),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _MESSAGE}]}),
]


@dataclass(frozen=True, kw_only=True)
class RemoteRmBody:
    """prompt: as a string it is taken verbatim, with the response after it; as messages the model's
    own template is applied. model: of several that are served. label, and whatever else comes, is
    not read."""

    __pydantic_config__ = OPEN
    prompt: Prompt
    response: str
    label: Any = None
    model: str | None = None


_BODY = JsonBody(RemoteRmBody)


def install(door: Door) -> None:
    door.post(
        "/rm",
        Route(
            parse=_parse,
            label="rm",
            errors=NATIVE,
            asks=RemoteRmBody,
            answers={
                "anyOf": [
                    {"type": "number"},
                    {"type": "object", "additionalProperties": {"type": "number"}},
                ]
            },
            example={
                "prompt": [{"role": "user", "content": "What is 2+2?"}],
                "response": "4<|im_end|>",
                "label": None,
            },
            summary="slime's remote reward model; ?format=dict answers all heads",
            hold_s=HOLD_S,
            lane=Priority.BULK,
            options={"format": ("number", "dict")},
        ),
    )


def _parse(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    sample: Sample
    if isinstance(body.prompt, str):
        sample = Transcript(prompt=body.prompt, responses=(body.response,), special_tokens="bos")
    else:
        sample = Sample(messages=body.prompt, responses=(without_ending(body.response),))
    return Ask(samples=[sample], places=["response"], model=body.model, reply=_reply)


def _reply(scored: Scored) -> object:
    (reward,) = scored.numbers
    if scored.call.query.get("format") == "dict":
        return {"overall": reward, **scored.heads[0]}
    return reward
