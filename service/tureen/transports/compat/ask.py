"""What a drop-in request asks for, and its scores as one number each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tureen.contracts import (
    ModelInfo,
    Sample,
    SampleResult,
    Score,
    ScoreRequest,
    ScoreResponse,
    Truncate,
)
from tureen.engine.scoring import Scoring
from tureen.errors import (
    InputTooLong,
    InvalidRequest,
    UnknownModel,
    nearest,
    quoted,
)
from tureen.text.written import SpecialTokens, Split
from tureen.transports.admission import Admission
from tureen.transports.compat.bodies import Ids, LongestText, transcript
from tureen.transports.compat.shapes import ErrorShape
from tureen.transports.query import check_query
from tureen.transports.reply import json_reply, timing_headers

_SURENESS: tuple[Split, ...] = ("whole", "found", "given")


@dataclass(slots=True)
class Call:
    """One request. errors: may be set once it is known whose it is. known: query parameters and
    their values. path: parameters of the path. admission: of the server."""

    scorer: Scoring
    body: bytes
    query: Mapping[str, str]
    headers: Mapping[str, str]
    known: Mapping[str, Sequence[str]]
    errors: ErrorShape
    route: str
    path: dict[str, str]
    admission: Admission

    def check_options(self) -> None:
        """
        Raises:
            InvalidRequest: a query parameter that is not known, or has another value.
        """
        check_query(self.query, self.known)
        for name, value in self.query.items():
            if value not in self.known[name]:
                raise InvalidRequest(
                    f"query parameter {name} is {quoted(value)}; it can be "
                    f"{', '.join(self.known[name])}; send that, or leave it out.",
                    field=name,
                )

    def transcripts(
        self,
        texts: Sequence[str | Ids],
        special_tokens: SpecialTokens,
        prompts: Sequence[str | None] | None = None,
    ) -> tuple[list[Sample], list[Split]]:
        """Samples of texts in which prompt and response are one, and how they were told apart.

        Args:
            prompts: of each text, where the client told them apart.
        Raises:
            InvalidRequest: more texts than are scored at once; none is looked through then.
        """
        self.scorer.check_count(len(texts), "samples")
        read = [
            transcript(text, special_tokens, prompt)
            for text, prompt in zip(texts, prompts or (None,) * len(texts), strict=True)
        ]
        return [sample for sample, _ in read], [how for _, how in read]

    def activated(self, asked: bool | None, system: str) -> bool:
        """Whether rewards go through a sigmoid. asked: None where the request does not say."""
        if asked is not None:
            return asked
        return system in self.admission.config.upstream_activation

    def served(self, model: str | None) -> str | None:
        """The model to ask. Where one is served, whatever the client calls it is that one: trainers
        send the path of their own checkpoint.

        Raises:
            UnknownModel: another name, where the server was told to be strict.
        """
        ids = [info.id for info in self.scorer.models().models]
        if model is None or model in ids or len(ids) > 1:
            return model
        if self.admission.config.strict_model:
            raise UnknownModel(
                f"model {quoted(model)} is not served{nearest(model, ids)} (strict_model)",
                field="model",
                got=model,
            )
        self.admission.metrics.other_name(self.route)
        return None

    def about(self, model: str | None) -> ModelInfo:
        """The model that answers a body that names this one.

        Raises:
            UnknownModel: none of several.
        """
        several = len(self.scorer.models().models) > 1
        return self.scorer.model(model if several else None)


@dataclass(kw_only=True)
class Ask:
    """What a body asks for.

    places: where each sample stands in the body. splits: how prompts were told apart, where texts
    came in one string. longest: what the body says of it. reply: the body of the answer, or a whole
    response.
    """

    samples: Sequence[Sample]
    places: Sequence[str]
    reply: Callable[[Scored], object]
    model: str | None = None
    truncate: Truncate = Truncate.NEVER
    longest: Sequence[LongestText] = ()
    activated: bool = False
    splits: Sequence[Split] = ()


@dataclass(kw_only=True)
class Scored:
    """What a reply is made of; one entry a response, in the order of the request.

    model: as it was asked for. info: of the model that answered.
    numbers: rewards, after the activation that was asked for. heads: what each head says, in the
    model's order; raw values where the request asks for raw=1.
    """

    model: str
    info: ModelInfo
    numbers: list[float]
    heads: list[dict[str, float]]
    scores: list[Score]
    call: Call

    @property
    def tokens(self) -> int:
        return sum(score.tokens for score in self.scores)

    @property
    def all_heads(self) -> bool:
        return self.call.query.get("heads") == "all"

    def vector(self, index: int) -> tuple[float, ...]:
        """The reward; behind the heads where all heads are asked for."""
        heads = self.heads[index].values() if self.all_heads else ()
        return (*heads, self.numbers[index])


async def score(call: Call, ask: Ask, terms: dict[str, Any]) -> object:
    """The HTTP response; or, when a sample failed, a `ScoreResponse` that is nothing but its error."""
    call.check_options()
    if ask.activated and call.query.get("heads"):
        raise InvalidRequest(
            "an activation and heads=all were asked for; an activation is of one number; send one "
            "of the two.",
            field="heads",
        )
    response: ScoreResponse | None = None
    if ask.samples:
        response = await call.scorer.score(
            ScoreRequest(
                model=call.served(ask.model),
                samples=tuple(ask.samples),
                segments=False,
                truncate=ask.truncate,
            ),
            **terms,
        )
        failed = _first_failure(response, ask.places)
        if failed is not None:
            return replace(response, results=(failed,))
    scored = _scored(call, ask, response)
    _refuse_longer(ask, scored.scores)
    headers = {"x-tureen-activation": "sigmoid" if ask.activated else "none"}
    if response is not None:
        cut = sum(score.truncated_tokens > 0 for score in scored.scores)
        characters = sum(len(text) for sample in ask.samples for text in _texts(sample))
        headers |= timing_headers(response.timings) | {
            "x-compute-type": scored.info.device.partition(":")[0],
            "x-compute-characters": str(characters),
            "x-compute-tokens": str(scored.tokens),
            "x-tureen-fingerprint": response.fingerprint,
            "x-tureen-truncated": str(cut),
        }
    if ask.splits:
        headers["x-tureen-split"] = min(ask.splits, key=_SURENESS.index)
    return json_reply(ask.reply(scored), headers=headers)


def _first_failure(response: ScoreResponse, places: Sequence[str]) -> SampleResult | None:
    for result, place in zip(response.results, places, strict=True):
        if result.error is not None:
            error = result.error
            message = f"{place}: {error.message}"
            return SampleResult(error=replace(error, message=message, field=place))
    return None


def _refuse_longer(ask: Ask, scores: Sequence[Score]) -> None:
    """With what stands before the response: a text that is longer without it is found, too."""
    places = [
        place if len(sample.responses) == 1 else f"{place}[{index}]"
        for sample, place in zip(ask.samples, ask.places, strict=True)
        for index in range(len(sample.responses))
    ]
    for most in ask.longest:
        for place, score in zip(places, scores, strict=True):
            if score.tokens > most.tokens:
                raise InputTooLong(
                    f"{place} is {score.tokens} tokens with its prompt; {most.field} is "
                    f"{most.tokens}, and nothing is cut to that; shorten it, or send a greater "
                    "number.",
                    field=place,
                    got=score.tokens,
                    limit=most.tokens,
                )


def _scored(call: Call, ask: Ask, response: ScoreResponse | None) -> Scored:
    raw = call.query.get("raw") == "1"
    scores = (
        [score for result in response.results for score in result.scores or ()] if response else []
    )
    info = call.scorer.model(response.model) if response else call.about(ask.model)
    weights = {head.name: head.weight for head in info.heads}
    heads = [
        {name: head.value if raw else head.calibrated for name, head in score.heads.items()}
        for score in scores
    ]
    numbers = [score.reward for score in scores]
    if raw:
        numbers = [sum(weights[name] * value for name, value in one.items()) for one in heads]
    if ask.activated:
        numbers = [sigmoid(number) for number in numbers]
    return Scored(
        model=ask.model if ask.model is not None else info.id,
        info=info,
        numbers=numbers,
        heads=heads,
        scores=scores,
        call=call,
    )


def sigmoid(number: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow on either side."""
    if number >= 0:
        return 1 / (1 + math.exp(-number))
    grown = math.exp(number)
    return grown / (1 + grown)


def _texts(sample: Sample) -> Sequence[str]:
    before = [sample.prompt] if sample.prompt is not None else []
    return [*before, *(one.content for one in sample.messages or ()), *sample.responses]


Order = Literal["first", "last"]


def descending(numbers: Sequence[float], ties: Order) -> list[int]:
    """Indices, greatest first; of equals the first, or the last, comes first."""
    indices = range(len(numbers))
    if ties == "last":
        return sorted(indices, key=lambda index: (numbers[index], index), reverse=True)
    return sorted(indices, key=lambda index: -numbers[index])
