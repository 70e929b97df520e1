"""NVIDIA NIM's reward models: a chat completion whose answer is "head:number,…,overall:number"."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from tureen.errors import InvalidRequest, quoted
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import ChatMessage, ModelBody, conversation, extras
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import OPENAI
from tureen.transports.compat.vllm import Usage, new_id
from tureen.transports.json_body import JsonBody


@dataclass(frozen=True, kw_only=True)
class RewardChatBody(ModelBody):
    """The last message is the assistant's, and is scored. Parameters of sampling are refused."""

    messages: tuple[ChatMessage, ...]
    stream: bool | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMessage:
    role: Literal["assistant"] = "assistant"
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardLogprob:
    token: str
    logprob: float
    bytes: None = None
    top_logprobs: tuple[()] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardLogprobs:
    content: list[RewardLogprob]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardChoice:
    index: int = 0
    message: RewardMessage
    logprobs: RewardLogprobs
    finish_reason: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardChatReply:
    """Heads in the model's order, overall last; the same numbers in message and logprobs."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[RewardChoice]
    usage: Usage


_BODY = JsonBody(RewardChatBody)


def install(door: Door) -> None:
    door.post(
        "/v1/chat/completions",
        Route(
            parse=_parse,
            label="chat",
            errors=OPENAI,
            asks=RewardChatBody,
            answers=RewardChatReply,
            example={
                "model": "rm",
                "messages": [
                    {"role": "user", "content": "What is 2+2?"},
                    {"role": "assistant", "content": "4"},
                ],
            },
            summary="NIM's reward: the last turn is scored, nothing is generated",
        ),
    )


def _parse(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    asked = {name: value for name, value in extras(body).items() if value is not None}
    if body.stream:
        asked["stream"] = True
    if asked:
        name = next(iter(asked))
        raise InvalidRequest(
            f"{quoted(name)} has no meaning for a reward, which is not sampled; known are model, "
            "messages, user; leave it out.",
            field=name,
        )
    return Ask(
        samples=[conversation(body.messages)],
        places=["messages"],
        model=body.model,
        reply=_reply,
    )


def _reply(scored: Scored) -> RewardChatReply:
    numbers = {**scored.heads[0], "overall": scored.numbers[0]}
    return RewardChatReply(
        id=new_id("chatcmpl"),
        model=scored.model,
        choices=[
            RewardChoice(
                message=RewardMessage(
                    content=",".join(f"{name}:{number!r}" for name, number in numbers.items())
                ),
                logprobs=RewardLogprobs(
                    content=[
                        RewardLogprob(token=name, logprob=number)
                        for name, number in numbers.items()
                    ]
                ),
            )
        ],
        usage=Usage.of(scored),
    )
