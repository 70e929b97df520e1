"""Reranking: the reward of each document as a response to the query.

One reply serves vLLM, Cohere and Jina, whose bodies have `documents`; a body with `texts` on
`/rerank` is of text-embeddings-inference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tureen.contracts import Sample
from tureen.errors import InvalidRequest
from tureen.transports.compat import tei
from tureen.transports.compat.ask import Ask, Call, Scored, descending
from tureen.transports.compat.bodies import (
    ActivationBody,
    LongestText,
    refuse_score_changing,
    truncation_to,
)
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import OPENAI, TEI, NoClaimant
from tureen.transports.compat.vllm import Usage, new_id
from tureen.transports.json_body import JsonBody, fields_of


def _documents(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        texts = [one.get("text") if isinstance(one, dict) else one for one in value]
        if all(isinstance(text, str) for text in texts):
            return tuple(map(str, texts))
    raise PydanticCustomError("documents", "an array of strings, or of objects with a text")


_DOCUMENT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
Documents = Annotated[
    Any,
    AfterValidator(_documents),
    WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "string"}, _DOCUMENT]}}),
]


@dataclass(frozen=True, kw_only=True)
class DocumentsBody(ActivationBody):
    """top_n: null, 0, or more than there are: all. max_tokens_per_doc: a longer document is refused,
    because none is ever cut."""

    query: str
    documents: Documents
    top_n: int | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = None
    truncate_prompt_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class RerankBody(ActivationBody):
    """documents (vLLM, Cohere, Jina) or texts (text-embeddings-inference)."""

    query: str
    documents: Documents | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = None
    truncate_prompt_tokens: int | None = None
    texts: tuple[str, ...] | None = None
    truncate: bool | None = None
    truncation_direction: tei.Direction = "Right"
    raw_scores: bool | None = None
    return_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankDocument:
    text: str
    multi_modal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankResult:
    """index: of the document in the request."""

    index: int
    document: RerankDocument | None
    relevance_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiVersion:
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledUnits:
    search_units: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankMeta:
    api_version: ApiVersion
    billed_units: BilledUnits = field(default_factory=BilledUnits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankReply:
    """results: greatest score first; equals in the order of the request."""

    id: str
    model: str
    usage: Usage
    results: list[RerankResult]
    meta: RerankMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangRank:
    """One entry of the bare list that ?format=list asks for."""

    score: float
    index: int
    document: str | None


_SHARED, _DOCUMENTS = JsonBody(RerankBody), JsonBody(DocumentsBody)


def install(door: Door) -> None:
    example = {"model": "rm", "query": "What is 2+2?", "documents": ["4", "5"], "top_n": 1}
    door.post(
        "/rerank",
        Route(
            parse=_shared,
            label="rerank",
            errors=OPENAI,
            asks=RerankBody,
            answers={"anyOf": [RerankReply, tei.RANKS]},
            example=example,
            summary="vLLM's, Cohere's and Jina's reranking; text-embeddings-inference's with `texts`",
            shared_with=TEI,
        ),
    )
    for version in ("1", "2"):
        door.post(
            f"/v{version}/rerank",
            Route(
                parse=partial(_versioned, version=version),
                label="rerank",
                errors=OPENAI,
                asks=DocumentsBody,
                answers={"anyOf": [RerankReply, {"type": "array", "items": SglangRank}]},
                example=example,
                summary="vLLM's, Cohere's and Jina's reranking; SGLang's list with ?format=list",
                options={"format": ("object", "list")},
            ),
        )


def _shared(call: Call) -> Ask:
    try:
        body = _SHARED.parse(call.body)
    except InvalidRequest:
        fields = fields_of(call.body)
        if "texts" in fields and "documents" not in fields:
            call.errors = TEI
        raise
    if (body.documents is None) == (body.texts is None):
        given = "neither" if body.texts is None else "both"
        raise NoClaimant(
            f"{given} of documents (of vLLM, Cohere, Jina) and texts (of text-embeddings-inference) "
            "given; send one of them.",
            field="documents",
        )
    refuse_score_changing(body)
    if body.texts is not None:
        call.errors = TEI
        if body.raw_scores is None and "raw_scores" in fields_of(call.body):
            raise InvalidRequest(
                "raw_scores is null; it must be true or false; send that, or leave it out.",
                field="raw_scores",
            )
        return tei.rerank(call, body, body.query, body.texts, body.return_text)
    tei.refuse_fields(body)
    return _ask(call, body, body.documents or (), "2")


def _versioned(call: Call, version: str) -> Ask:
    body = _DOCUMENTS.parse(call.body)
    refuse_score_changing(body)
    return _ask(call, body, body.documents, version)


def _ask(
    call: Call, body: DocumentsBody | RerankBody, documents: tuple[str, ...], version: str
) -> Ask:
    check_at_least_zero("top_n", body.top_n)
    check_at_least_zero("max_tokens_per_doc", body.max_tokens_per_doc)
    truncate, longest = truncation_to(
        body.truncate_prompt_tokens,
        "truncate_prompt_tokens",
        call.about(body.model).limits.max_input_tokens,
    )
    if body.max_tokens_per_doc:
        longest = (*longest, LongestText("max_tokens_per_doc", body.max_tokens_per_doc))
    return Ask(
        samples=[Sample(prompt=body.query, responses=documents)] if documents else [],
        places=["documents"] if documents else [],
        model=body.model,
        truncate=truncate,
        longest=longest,
        activated=call.activated(body.activation_asked(), "vllm"),
        reply=partial(_reply, body=body, documents=documents, version=version),
    )


def check_at_least_zero(field: str, given: int | None) -> None:
    """Raises InvalidRequest."""
    if given is not None and given < 0:
        raise InvalidRequest(
            f"{field} is {given}; it must be at least 0; send that, or leave it out.",
            field=field,
            got=given,
            limit=0,
        )


def _reply(
    scored: Scored, body: DocumentsBody | RerankBody, documents: tuple[str, ...], version: str
) -> object:
    best = descending(scored.numbers, ties="first")
    if body.top_n:
        best = best[: body.top_n]
    shown = body.return_documents is not False
    if scored.call.query.get("format") == "list":
        return [
            SglangRank(
                score=scored.numbers[index],
                index=index,
                document=documents[index] if shown else None,
            )
            for index in best
        ]
    return RerankReply(
        id=new_id("rerank"),
        model=scored.model,
        usage=Usage.of(scored),
        results=[
            RerankResult(
                index=index,
                document=RerankDocument(text=documents[index]) if shown else None,
                relevance_score=scored.numbers[index],
            )
            for index in best
        ],
        meta=RerankMeta(api_version=ApiVersion(version=version)),
    )
