"""Infinity, whose paths are others' too: it lives under `/infinity`, where its clients' base URL points.

Upstream applies a sigmoid to reranks unless `raw_scores` is true, ignores that flag on
classification, and strips texts; here rewards are raw unless it is false, on both, and nothing is
stripped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request

from tureen.contracts import Sample
from tureen.engine.scoring import Scoring
from tureen.errors import InvalidRequest
from tureen.transports.compat.ask import Ask, Call, Scored, descending
from tureen.transports.compat.bodies import ModelBody, refuse_score_changing
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.rerank import Documents, check_at_least_zero
from tureen.transports.compat.shapes import INFINITY
from tureen.transports.compat.vllm import Usage, new_id
from tureen.transports.json_body import JsonBody

SYSTEM = "infinity"


@dataclass(frozen=True, kw_only=True)
class InfinityRerankBody(ModelBody):
    """raw_scores: false asks for a sigmoid. top_n: null, 0, or more than there are: all."""

    query: str
    documents: Documents
    return_documents: bool = False
    raw_scores: bool | None = None
    top_n: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InfinityRank:
    relevance_score: float
    index: int
    document: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InfinityRerankReply:
    """results: greatest score first; equals in the order of the request."""

    object: Literal["rerank"] = "rerank"
    results: list[InfinityRank]
    model: str
    usage: Usage
    id: str
    created: int


@dataclass(frozen=True, kw_only=True)
class InfinityClassifyBody(ModelBody):
    """raw_scores: false asks for a sigmoid."""

    input: tuple[str, ...]
    raw_scores: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InfinityClass:
    score: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InfinityClassifyReply:
    """data: of each text the reward; ?heads=all puts the heads before it."""

    object: Literal["classify"] = "classify"
    data: list[list[InfinityClass]]
    model: str
    usage: Usage
    id: str
    created: int


_RERANK, _CLASSIFY = JsonBody(InfinityRerankBody), JsonBody(InfinityClassifyBody)


def install(door: Door) -> None:
    door.post(
        "/infinity/rerank",
        Route(
            parse=_rerank,
            label="infinity_rerank",
            errors=INFINITY,
            asks=InfinityRerankBody,
            answers=InfinityRerankReply,
            example={"model": "rm", "query": "What is 2+2?", "documents": ["4", "5"]},
            summary="Infinity's reranking",
        ),
    )
    door.post(
        "/infinity/classify",
        Route(
            parse=_classify,
            label="infinity_classify",
            errors=INFINITY,
            asks=InfinityClassifyBody,
            answers=InfinityClassifyReply,
            example={"model": "rm", "input": ["user: What is 2+2?\nassistant: 4"]},
            summary="Infinity's classification",
        ),
    )
    door.get(
        "/infinity/models",
        _models,
        route="infinity_models",
        errors=INFINITY,
        summary="Infinity's list of models",
    )


def _rerank(call: Call) -> Ask:
    body = _RERANK.parse(call.body)
    refuse_score_changing(body)
    check_at_least_zero("top_n", body.top_n)
    documents: tuple[str, ...] = body.documents
    _refuse_empty(documents, "documents")

    def reply(scored: Scored) -> InfinityRerankReply:
        best = descending(scored.numbers, ties="first")[: body.top_n or None]
        return InfinityRerankReply(
            results=[
                InfinityRank(
                    relevance_score=scored.numbers[index],
                    index=index,
                    document=documents[index] if body.return_documents else None,
                )
                for index in best
            ],
            model=scored.model,
            usage=Usage.of(scored),
            id=new_id(SYSTEM),
            created=int(time.time()),
        )

    return Ask(
        samples=[Sample(prompt=body.query, responses=documents)],
        places=["documents"],
        model=body.model,
        activated=_activated(call, body.raw_scores),
        reply=reply,
    )


def _classify(call: Call) -> Ask:
    body = _CLASSIFY.parse(call.body)
    refuse_score_changing(body)
    _refuse_empty(body.input, "input")
    samples, splits = call.transcripts(body.input, "all")
    return Ask(
        samples=samples,
        splits=splits,
        places=[f"input[{index}]" for index in range(len(samples))],
        model=body.model,
        activated=_activated(call, body.raw_scores),
        reply=_classes,
    )


def _classes(scored: Scored) -> InfinityClassifyReply:
    data = []
    for index, number in enumerate(scored.numbers):
        heads = scored.heads[index].items() if scored.all_heads else ()
        labelled = [*heads, ("overall", number)]
        data.append([InfinityClass(score=score, label=label) for label, score in labelled])
    return InfinityClassifyReply(
        data=data,
        model=scored.model,
        usage=Usage.of(scored),
        id=new_id(SYSTEM),
        created=int(time.time()),
    )


def _activated(call: Call, raw_scores: bool | None) -> bool:
    return call.activated(None if raw_scores is None else not raw_scores, SYSTEM)


def _refuse_empty(texts: tuple[str, ...], field: str) -> None:
    if not texts:
        raise InvalidRequest(f"{field} is empty; send at least one text.", field=field, got=0)


def _models(request: Request, scorer: Scoring) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {
                "id": model.id,
                "stats": {"batch_size": model.limits.max_batch_requests},
                "object": "model",
                "owned_by": "infinity",
                "created": int(time.time()),
                "backend": model.backend,
                "capabilities": ["rerank", "classify"],
            }
            for model in scorer.models().models
        ],
    }
