"""text-embeddings-inference: `/predict`, `/rerank` with `texts`, `/info`; `/` and `/invocations` take either body.

Deviations: overload is 503, where TEI says 429; scores are raw unless `raw_scores` is false in the
request; a text is never cut from the right, so `truncate` with that direction refuses what is too
long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tureen._version import __version__
from tureen.contracts import Sample, Truncate
from tureen.engine.scoring import Scoring
from tureen.text.written import Split
from tureen.transports.compat.ask import Ask, Call, Scored, descending
from tureen.transports.compat.bodies import OPEN, refuse, refuse_score_changing, transcript
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import TEI, EmptyBatch, NoClaimant
from tureen.transports.json_body import JsonBody

Direction = Literal["left", "Left", "right", "Right"]
Text = tuple[str, ...]
"""One text, or a pair."""

_TEXT = {"type": "string"}
_PAIR = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}


def _inputs(value: Any) -> Text | list[Text]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if _is_text(value):
            return tuple(value)
        if all(_is_text(one) for one in value):
            return [tuple(one) for one in value]
    raise PydanticCustomError(
        "inputs",
        "a text, an array of one or two texts (which is one text, or one pair), or an array of such "
        "arrays",
    )


def _is_text(value: object) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 2
        and all(isinstance(one, str) for one in value)
    )


Inputs = Annotated[
    Any,
    AfterValidator(_inputs),
    WithJsonSchema({"anyOf": [_TEXT, _PAIR, {"type": "array", "items": _PAIR, "minItems": 1}]}),
]


class Terms(Protocol):
    """The fields that `/predict` and `/rerank` share; `model` is none of TEI's own."""

    @property
    def model(self) -> str | None: ...
    @property
    def truncate(self) -> bool | None: ...
    @property
    def truncation_direction(self) -> str: ...
    @property
    def raw_scores(self) -> bool | None: ...


def _stated(value: bool | None) -> bool:
    if value is None:
        raise PydanticCustomError("stated", "true or false")
    return value


Stated = Annotated[bool | None, AfterValidator(_stated), WithJsonSchema({"type": "boolean"})]
"""True or false, and None only where it is absent."""


@dataclass(frozen=True, kw_only=True)
class PredictBody:
    """raw_scores: false asks for a sigmoid; absent is raw. A flat array of two texts is one pair.
    model: of several that are served."""

    __pydantic_config__ = OPEN
    model: str | None = None
    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    raw_scores: Stated = None


@dataclass(frozen=True, kw_only=True)
class InvocationBody:
    """The body of `/predict`, which has inputs, or of `/rerank`, which has query and texts."""

    __pydantic_config__ = OPEN
    model: str | None = None
    inputs: Inputs | None = None
    query: str | None = None
    texts: tuple[str, ...] | None = None
    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    raw_scores: Stated = None
    return_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    score: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    index: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWithText:
    index: int
    score: float
    text: str


RANKS = {
    "anyOf": [{"type": "array", "items": Rank}, {"type": "array", "items": RankWithText}],
}
_PREDICTIONS = {"type": "array", "items": Prediction}
_ANSWERS = {"anyOf": [_PREDICTIONS, {"type": "array", "items": _PREDICTIONS}]}
_BODY, _INVOCATION = JsonBody(PredictBody), JsonBody(InvocationBody)


def install(door: Door) -> None:
    door.post(
        "/predict",
        Route(
            parse=_predict,
            label="predict",
            errors=TEI,
            asks=PredictBody,
            answers=_ANSWERS,
            example={"inputs": [["What is 2+2?", "4"], ["What is 2+2?", "5"]]},
            summary="text-embeddings-inference's prediction; ?heads=all adds a label for each head",
        ),
    )
    invocation = Route(
        parse=_invocation,
        label="invocations",
        errors=TEI,
        asks=InvocationBody,
        answers={"anyOf": [*_ANSWERS["anyOf"], *RANKS["anyOf"]]},
        example={"query": "What is 2+2?", "texts": ["4", "5"]},
        summary="text-embeddings-inference's /rerank, or /predict, as SageMaker asks for them",
    )
    for path in ("/", "/invocations"):
        door.post(path, invocation)
    door.get(
        "/info",
        lambda _, scorer: _info(scorer),
        route="info",
        errors=TEI,
        summary="text-embeddings-inference's description of the model; there are no embeddings",
    )


def _invocation(call: Call) -> Ask:
    body = _INVOCATION.parse(call.body)
    refuse_score_changing(body)
    if body.inputs is not None and body.query is None and body.texts is None:
        return _predict_texts(call, body, body.inputs)
    if body.inputs is None and body.query is not None and body.texts is not None:
        return rerank(call, body, body.query, body.texts, body.return_text)
    raise NoClaimant(
        "inputs (of /predict), or query and texts (of /rerank), must be given, and not both; send "
        "one of them.",
        field="inputs",
    )


def rerank(call: Call, body: Terms, query: str, texts: Sequence[str], return_text: bool) -> Ask:
    """The `/rerank` whose body has `texts`."""
    if not texts:
        raise EmptyBatch("texts is empty; send at least one.", field="texts", got=0)

    def reply(scored: Scored) -> object:
        numbers = scored.numbers
        best = descending(numbers, ties="last")
        if return_text:
            return [RankWithText(index=i, score=numbers[i], text=texts[i]) for i in best]
        return [Rank(index=i, score=numbers[i]) for i in best]

    return Ask(
        samples=[Sample(prompt=query, responses=tuple(texts))],
        places=["texts"],
        model=body.model,
        truncate=_truncation(body),
        activated=call.activated(_activation_asked(body), "tei"),
        reply=reply,
    )


def refuse_fields(body: Terms) -> None:
    """
    Raises:
        InvalidRequest: fields of this module's systems beside `documents`, where they mean nothing.
    """
    for name in ("truncate", "raw_scores"):
        if getattr(body, name) is not None:
            raise refuse(name, "it belongs to texts; beside documents send use_activation")


def _activation_asked(body: Terms) -> bool | None:
    return None if body.raw_scores is None else not body.raw_scores


def _truncation(body: Terms) -> Truncate:
    left = body.truncation_direction.lower() == "left"
    return Truncate.PROMPT if body.truncate and left else Truncate.NEVER


def _predict(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    refuse_score_changing(body)
    return _predict_texts(call, body, body.inputs)


def _predict_texts(call: Call, body: Terms, inputs: Text | list[Text]) -> Ask:
    batch = inputs if isinstance(inputs, list) else [inputs]
    call.scorer.check_count(len(batch), "samples")
    read = [_sample(text) for text in batch]
    return Ask(
        samples=[sample for sample, _ in read],
        splits=[how for _, how in read],
        places=[f"inputs[{index}]" for index in range(len(read))]
        if isinstance(inputs, list)
        else ["inputs"],
        model=body.model,
        truncate=_truncation(body),
        activated=call.activated(_activation_asked(body), "tei"),
        reply=partial(_predictions, batched=isinstance(inputs, list)),
    )


def _sample(text: Text) -> tuple[Sample, Split]:
    if len(text) == 1:
        return transcript(text[0], "all")
    prompt, response = text
    return Sample(prompt=prompt, responses=(response,)), "given"


def _predictions(scored: Scored, batched: bool) -> object:
    rows = []
    for index, number in enumerate(scored.numbers):
        labelled = {"overall": number}
        if scored.all_heads:
            labelled |= scored.heads[index]
        best = sorted(labelled.items(), key=lambda item: -item[1])
        rows.append([Prediction(score=score, label=label) for label, score in best])
    return rows if batched else rows[0]


def _info(scorer: Scoring) -> dict[str, Any]:
    model = scorer.model()
    limits = model.limits
    return {
        "model_id": model.id,
        "model_sha": None,
        "model_dtype": model.dtype,
        "served_model_name": model.id,
        "model_type": {"reranker": {"id2label": {"0": "overall"}, "label2id": {"overall": 0}}},
        "max_concurrent_requests": limits.max_concurrent_requests,
        "max_input_length": limits.max_input_tokens,
        "max_batch_tokens": limits.max_batch_tokens,
        "max_batch_requests": limits.max_batch_requests,
        "max_client_batch_size": limits.max_client_batch_size,
        "auto_truncate": False,
        "tokenization_workers": scorer.limits.tokenization_workers,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "embeddings": False,
        "fingerprint": model.fingerprint,
        "heads": model.heads,
        "temperature": model.temperature,
    }
