"""OpenRLHF: `--reward.remote_url http://host:8080/get_reward`, or the older `--remote_rm_url`.

The client posts one sample at a time, five times a second apart whatever the answer was, and then
its step dies: so a request waits for a server that is loading or full, below the client's own
180 s, before it is refused. Every further server of a list of URLs gets empty lists, and has to
answer them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tureen.contracts import Calibration, Priority, Truncate
from tureen.errors import InvalidRequest
from tureen.transports.compat.ask import Ask, Call, Scored, sigmoid
from tureen.transports.compat.bodies import OPEN
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import NATIVE
from tureen.transports.json_body import JsonBody

HOLD_S = 150.0


@dataclass(frozen=True, kw_only=True)
class GetRewardBody:
    """query: prompt and response as one string, special tokens included. prompts: the first part
    of each. model: of several that are served. labels, and whatever else comes, is not read."""

    __pydantic_config__ = OPEN
    query: tuple[str, ...]
    prompts: tuple[str, ...] | None = None
    labels: Any = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRewardReply:
    """rewards: raw. scores: for dynamic filtering, which keeps what is between 0 and 1; where heads
    are calibrated, the probability that the response beats an average one of the reference set,
    σ(reward / temperature); else the rewards. extra_logs: what each head says."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


_BODY = JsonBody(GetRewardBody)


def install(door: Door) -> None:
    door.post(
        "/get_reward",
        Route(
            parse=_parse,
            label="get_reward",
            errors=NATIVE,
            asks=GetRewardBody,
            answers=GetRewardReply,
            example={
                "query": ["<s>user: hi\nassistant: hello</s>"],
                "prompts": ["<s>user: hi\nassistant: "],
                "labels": [""],
            },
            summary="OpenRLHF's remote reward model",
            hold_s=HOLD_S,
            lane=Priority.BULK,
            options={"truncate": ("never", "prompt")},
        ),
    )


def _parse(call: Call) -> Ask:
    body = _BODY.parse(call.body)
    if body.prompts and len(body.prompts) != len(body.query):
        raise InvalidRequest(
            f"prompts has {len(body.prompts)} entries for {len(body.query)} of query; it has one for "
            "each; match them, or leave prompts out.",
            field="prompts",
            got=len(body.prompts),
            limit=len(body.query),
        )
    samples, splits = call.transcripts(body.query, "none", body.prompts)
    return Ask(
        samples=samples,
        splits=splits,
        places=[f"query[{index}]" for index in range(len(samples))],
        model=body.model,
        truncate=(
            Truncate.NEVER if call.query.get("truncate") == Truncate.NEVER else Truncate.PROMPT
        ),
        reply=_reply,
    )


def _reply(scored: Scored) -> GetRewardReply:
    info = scored.info
    calibrated = any(head.calibration != Calibration() for head in info.heads)
    scores = scored.numbers
    if calibrated:
        scores = [sigmoid(score.reward / info.temperature) for score in scored.scores]
    names = scored.heads[0] if scored.heads else ()
    return GetRewardReply(
        rewards=scored.numbers,
        scores=scores,
        extra_logs={name: [heads[name] for heads in scored.heads] for name in names},
    )
