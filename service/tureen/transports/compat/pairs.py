"""vLLM's `/score`: texts in pairs, one to one, one to many, or each to each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from tureen.contracts import Sample, ScoreRequest
from tureen.errors import InvalidRequest
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import (
    ActivationBody,
    Strings,
    refuse_score_changing,
    truncation_to,
)
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import OPENAI, NoClaimant
from tureen.transports.compat.vllm import Usage, new_id
from tureen.transports.json_body import JsonBody, fields_of

_FIRST = ("text_1", "queries", "data_1")
_SECOND = ("text_2", "documents", "items", "data_2")


@dataclass(frozen=True, kw_only=True)
class PairsBody(ActivationBody):
    """text_1 and text_2, under one of their names: prompts and responses."""

    text_1: Strings | None = None
    queries: Strings | None = None
    data_1: Strings | None = None
    text_2: Strings | None = None
    documents: Strings | None = None
    items: Strings | None = None
    data_2: Strings | None = None
    query: Any = None
    truncate_prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScore:
    index: int
    object: Literal["score"] = "score"
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsReply:
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PairScore]
    usage: Usage


_BODY, _NATIVE_BODY = JsonBody(PairsBody), JsonBody(ScoreRequest)


def install(door: Door) -> None:
    door.post(
        "/score",
        Route(
            parse=_parse,
            label="pairs",
            errors=OPENAI,
            asks=PairsBody,
            answers=PairsReply,
            example={"model": "rm", "text_1": "What is 2+2?", "text_2": ["4", "5"]},
            summary="vLLM's score: prompts against responses; /v1/score takes the same bodies",
        ),
    )


def native_or_pairs(call: Call) -> Ask | ScoreRequest:
    """What `/v1/score` was sent: Tureen's own body, or vLLM's, which has no samples."""
    try:
        return _NATIVE_BODY.parse(call.body)
    except InvalidRequest:
        fields = fields_of(call.body)
        if "samples" in fields or fields.isdisjoint((*_FIRST, *_SECOND, "query")):
            raise
    call.errors = OPENAI
    return _parse(call)


def _parse(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    refuse_score_changing(body)
    if body.query is not None:
        raise NoClaimant(
            "query (of SGLang) asks for the probabilities of tokens; a reward model has none; send "
            "text_1 and text_2.",
            field="query",
        )
    prompts, _ = _one_of(body, _FIRST)
    responses, where = _one_of(body, _SECOND)
    if len(prompts) == 1:
        samples = [Sample(prompt=prompts[0], responses=responses)] if responses else []
        places = [where] * len(samples)
    elif len(prompts) == len(responses):
        call.scorer.check_count(len(prompts), "samples")
        samples = [
            Sample(prompt=prompt, responses=(response,))
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        places = [f"{where}[{index}]" for index in range(len(samples))]
    else:
        raise InvalidRequest(
            f"{len(prompts)} texts stand against {len(responses)}; it can be 1 to 1, 1 to N or N to "
            "N; match them.",
            field=where,
            got=len(responses),
            limit=len(prompts),
        )
    truncate, longest = truncation_to(
        body.truncate_prompt_tokens,
        "truncate_prompt_tokens",
        call.about(body.model).limits.max_input_tokens,
    )
    return Ask(
        samples=samples,
        places=places,
        model=body.model,
        truncate=truncate,
        longest=longest,
        activated=call.activated(body.activation_asked(), "vllm"),
        reply=_reply,
    )


def _one_of(body: PairsBody, names: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        raise NoClaimant(
            f"{', '.join(given) or 'none'} of {', '.join(names)} given; they are names of one field; "
            "send one.",
            field=names[0],
        )
    value = getattr(body, given[0])
    return ((value,) if isinstance(value, str) else value), given[0]


def _reply(scored: Scored) -> PairsReply:
    return PairsReply(
        id=new_id("score"),
        created=int(time.time()),
        model=scored.model,
        data=[PairScore(index=index, score=number) for index, number in enumerate(scored.numbers)],
        usage=Usage.of(scored),
    )
