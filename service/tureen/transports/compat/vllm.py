"""vLLM's pooling routes, which verl's reward loop calls too; `/classify` is also SGLang's.

vLLM applies a sigmoid unless told otherwise; here a reward is raw unless an activation is asked for.
A request that is refused is refused with 400, which verl takes as final; with 503 it comes back.
"""

from __future__ import annotations

import base64
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tureen.contracts import Sample
from tureen.errors import InvalidRequest
from tureen.text.written import Split
from tureen.transports.compat import sglang
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import (
    ActivationBody,
    ChatMessage,
    Strings,
    TextsOrIds,
    conversation,
    refuse,
    refuse_score_changing,
    truncation_to,
)
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import OPENAI, NoClaimant
from tureen.transports.json_body import JsonBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None

    @classmethod
    def of(cls, scored: Scored) -> Usage:
        return cls(prompt_tokens=scored.tokens, total_tokens=scored.tokens)


@dataclass(frozen=True, kw_only=True)
class PoolingInput(ActivationBody):
    """Either `input`, written out by the client, or `messages`, of which the last turn is scored.

    add_special_tokens: to `input`, what the tokenizer puts around it; true unless false is sent.
    truncate_prompt_tokens: -1, or no less than the model takes, cuts the prompt from the left to
        that; a smaller one refuses what is longer.
    """

    input: TextsOrIds | None = None
    messages: tuple[ChatMessage, ...] | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def read(self, call: Call) -> tuple[list[Sample], list[Split], str]:
        """Samples, how their prompts were told apart, and the field they came in."""
        if (self.input is None) == (self.messages is None):
            raise InvalidRequest(
                f"{'neither' if self.input is None else 'both'} of input and messages given; send "
                "one of them.",
                field="input",
            )
        if self.messages is None:
            special = "none" if self.add_special_tokens is False else "all"
            return *call.transcripts(self.input or (), special), "input"
        for name in ("add_generation_prompt", "continue_final_message", "add_special_tokens"):
            if getattr(self, name):
                raise refuse(name, "the model's own template is applied as it is; leave it out")
        for name in ("chat_template", "chat_template_kwargs"):
            if getattr(self, name):
                raise refuse(name, "the template is the model's; send input to write it yourself")
        return [conversation(self.messages)], [], "messages"

    def ask(self, call: Call, reply: Any, system: str = "vllm") -> Ask:
        refuse_score_changing(self)
        samples, splits, where = self.read(call)
        truncate, longest = truncation_to(
            self.truncate_prompt_tokens,
            "truncate_prompt_tokens",
            call.about(self.model).limits.max_input_tokens,
        )
        return Ask(
            samples=samples,
            splits=splits,
            places=[f"{where}[{n}]" if where == "input" else where for n in range(len(samples))],
            model=self.model,
            truncate=truncate,
            longest=longest,
            activated=call.activated(self.activation_asked(), system),
            reply=reply,
        )


@dataclass(frozen=True, kw_only=True)
class ClassifyBody(PoolingInput):
    """vLLM's; or SGLang's, which has `text`."""

    text: Strings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyItem:
    index: int
    label: str
    probs: tuple[float, ...]
    num_classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyReply:
    """probs: the reward; behind the heads where ?heads=all asks for them."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassifyItem]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class VectorBody(PoolingInput):
    """How numbers are written: as JSON, or as base64 of little-endian float32."""

    encoding_format: str = "float"
    embed_dtype: str | None = None
    endianness: str | None = None

    def encoder(self) -> Callable[[tuple[float, ...]], tuple[float, ...] | str]:
        """
        Raises:
            InvalidRequest: another encoding, which would be read as other numbers.
        """
        for name, known in (
            ("encoding_format", ("float", "base64")),
            ("embed_dtype", ("float32",)),
            ("endianness", ("little", "native")),
        ):
            if getattr(self, name) not in (None, *known):
                raise refuse(name, f"it can be {' or '.join(map(repr, known))}")
        if self.encoding_format == "base64":
            return lambda vector: base64.b64encode(
                struct.pack(f"<{len(vector)}f", *vector)
            ).decode()
        return lambda vector: vector


@dataclass(frozen=True, kw_only=True)
class EmbeddingsBody(VectorBody):
    dimensions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsItem:
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: tuple[float, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsReply:
    """A vector is the reward, no embedding; base64 holds it as little-endian float32."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingsItem]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class PoolingBody(VectorBody):
    task: str = "classify"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingItem:
    index: int
    object: Literal["pooling"] = "pooling"
    data: tuple[float, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingReply:
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PoolingItem]
    usage: Usage


_CLASSIFY, _EMBEDDINGS, _POOLING = (
    JsonBody(ClassifyBody),
    JsonBody(EmbeddingsBody),
    JsonBody(PoolingBody),
)
_BESIDE_INPUT = (
    "add_special_tokens",
    "truncate_prompt_tokens",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "chat_template_kwargs",
)
_TEXT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"


def install(door: Door) -> None:
    door.post(
        "/classify",
        Route(
            parse=_classify,
            label="classify",
            errors=OPENAI,
            asks=ClassifyBody,
            answers={"anyOf": [ClassifyReply, sglang.CLASSIFY_ANSWERS]},
            example={"model": "rm", "input": _TEXT, "use_activation": False},
            summary="vLLM's and verl's classification; SGLang's where the body has `text`",
        ),
    )
    door.post(
        "/v1/embeddings",
        Route(
            parse=_embeddings,
            label="embeddings",
            errors=OPENAI,
            asks=EmbeddingsBody,
            answers=EmbeddingsReply,
            example={"model": "rm", "input": _TEXT},
            summary="the reward as verl reads it from SGLang: a vector of one number, no embedding",
        ),
    )
    door.post(
        "/pooling",
        Route(
            parse=_pooling,
            label="pooling",
            errors=OPENAI,
            asks=PoolingBody,
            answers=PoolingReply,
            example={"model": "rm", "input": _TEXT, "task": "classify"},
            summary="vLLM's pooling, task classify",
        ),
    )


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _classify(call: Call) -> Ask:
    body = _CLASSIFY.parse(call.body)
    if body.text is not None:
        if body.input is not None or body.messages is not None:
            raise NoClaimant(
                "text (of SGLang) and input or messages (of vLLM) were sent; send one of them.",
                field="text",
            )
        for name in _BESIDE_INPUT:
            if getattr(body, name) not in (None, False, {}, ""):
                raise refuse(name, "it belongs to input (of vLLM); beside text leave it out")
        return sglang.ask(call, body, body.text)
    return body.ask(call, _classify_reply)


def _classify_reply(scored: Scored) -> ClassifyReply:
    vectors = [scored.vector(index) for index in range(len(scored.numbers))]
    return ClassifyReply(
        id=new_id("classify"),
        created=int(time.time()),
        model=scored.model,
        data=[
            ClassifyItem(index=index, label="overall", probs=vector, num_classes=len(vector))
            for index, vector in enumerate(vectors)
        ],
        usage=Usage.of(scored),
    )


def _embeddings(call: Call) -> Ask:
    body = _EMBEDDINGS.parse(call.body)
    encode = body.encoder()
    if body.dimensions not in (None, 1):
        raise refuse("dimensions", "a reward is one number; leave it out")
    return body.ask(
        call,
        lambda scored: EmbeddingsReply(
            model=scored.model,
            data=[
                EmbeddingsItem(index=index, embedding=encode(scored.vector(index)))
                for index in range(len(scored.numbers))
            ],
            usage=Usage.of(scored),
        ),
        system="sglang",
    )


def _pooling(call: Call) -> Ask:
    body = _POOLING.parse(call.body)
    encode = body.encoder()
    if body.task != "classify":
        raise refuse(
            "task",
            "a reward model answers 'classify'; no head speaks of single tokens, and there are no "
            "embeddings; the rewards of your own tokens are token_rewards of /v1/score",
        )
    return body.ask(
        call,
        lambda scored: PoolingReply(
            id=new_id("pool"),
            created=int(time.time()),
            model=scored.model,
            data=[
                PoolingItem(index=index, data=encode(scored.vector(index)))
                for index in range(len(scored.numbers))
            ],
            usage=Usage.of(scored),
        ),
    )
