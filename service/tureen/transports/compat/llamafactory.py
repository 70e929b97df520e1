"""LLaMA-Factory: `reward_model_type: api`, `reward_model: http://host:8080/v1/score/evaluation`.

The client sends a whole batch, sets no time limit, tries once and reads `scores` whatever the status
is: a request waits long for a server that is loading or full before it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tureen.contracts import Priority
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import (
    ModelBody,
    refuse_score_changing,
    truncation_to,
)
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import NATIVE
from tureen.transports.compat.vllm import new_id
from tureen.transports.json_body import JsonBody

HOLD_S = 300.0


@dataclass(frozen=True, kw_only=True)
class EvaluationBody(ModelBody):
    """messages: prompt and response as one string each, special tokens included. max_length: -1, or
    no less than the model takes, cuts the prompt from the left; null cuts nothing; a smaller one
    refuses what is longer."""

    messages: tuple[str, ...]
    max_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReply:
    id: str
    object: Literal["score.evaluation"] = "score.evaluation"
    model: str
    scores: list[float]


_BODY = JsonBody(EvaluationBody)


def install(door: Door) -> None:
    door.post(
        "/v1/score/evaluation",
        Route(
            parse=_parse,
            label="evaluation",
            errors=NATIVE,
            asks=EvaluationBody,
            answers=EvaluationReply,
            example={
                "model": "model",
                "messages": [
                    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>"
                ],
            },
            summary="LLaMA-Factory's reward model behind an API",
            hold_s=HOLD_S,
            lane=Priority.BULK,
        ),
    )


def _parse(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    refuse_score_changing(body)
    samples, splits = call.transcripts(body.messages, "none")
    truncate, longest = truncation_to(
        body.max_length, "max_length", call.about(body.model).limits.max_input_tokens
    )
    return Ask(
        samples=samples,
        splits=splits,
        places=[f"messages[{index}]" for index in range(len(samples))],
        model=body.model,
        truncate=truncate,
        longest=longest,
        reply=_reply,
    )


def _reply(scored: Scored) -> EvaluationReply:
    return EvaluationReply(id=new_id("scoreval"), model=scored.model, scores=scored.numbers)
