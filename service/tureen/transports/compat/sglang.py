"""SGLang's own `/classify`: `text` in, a list of raw rewards as embeddings out; always raw."""

from __future__ import annotations

from dataclasses import dataclass

from tureen.errors import InvalidRequest
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import ActivationBody, refuse_score_changing


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangMeta:
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangItem:
    """embedding: the reward; behind the heads where ?heads=all asks for them."""

    embedding: tuple[float, ...]
    meta_info: SglangMeta


CLASSIFY_ANSWERS = {"anyOf": [{"type": "array", "items": SglangItem}, SglangItem]}


def ask(call: Call, body: ActivationBody, text: str | tuple[str, ...]) -> Ask:
    """`body` is a superset of vLLM's; a single string is answered by a single object."""
    refuse_score_changing(body)
    if body.activation_asked():
        raise InvalidRequest(
            "an activation was asked for with text; SGLang's route is always raw; send input.",
            field="text",
        )
    texts = (text,) if isinstance(text, str) else text
    samples, splits = call.transcripts(texts, "all")

    def reply(scored: Scored) -> object:
        items = [
            SglangItem(
                embedding=scored.vector(index), meta_info=SglangMeta(prompt_tokens=score.tokens)
            )
            for index, score in enumerate(scored.scores)
        ]
        return items[0] if isinstance(text, str) else items

    return Ask(
        samples=samples,
        splits=splits,
        places=[f"text[{index}]" for index in range(len(samples))],
        model=body.model,
        reply=reply,
    )
