"""What adapters share: the connection of a process, single samples gathered, samples from a trainer's fields."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

from tureen.adapters.oracle import RemoteOracle, Reward, Unscorable
from tureen.contracts import Message, Sample, Score
from tureen.errors import MissingExtra, nearest

URL, TOKEN, OPTIONS = "TUREEN_URL", "TUREEN_TOKEN", "TUREEN_OPTIONS"
_FIELDS = ("prompt", "messages", "context")


class Unscored(RuntimeError):
    """A sample has no reward, and the trainer knows no way to say so."""


class Gathered:
    """An oracle for callers of one sample each: what arrives while a batch is under way is the next batch."""

    def __init__(self, oracle: RemoteOracle) -> None:
        self.oracle = oracle
        self._waiting: list[tuple[Sample, Future[Reward]]] = []
        self._under_way = False
        self._lock = threading.Lock()

    def submit(self, sample: Sample) -> Future[Reward]:
        future: Future[Reward] = Future()
        with self._lock:
            self._waiting.append((sample, future))
            if self._under_way:
                return future
            self._under_way = True
        self._send()
        return future

    def _send(self) -> None:
        with self._lock:
            batch = [pair for pair in self._waiting if pair[1].set_running_or_notify_cancel()]
            self._waiting = []
            self._under_way = bool(batch)
        if not batch:
            return
        futures = [future for _, future in batch]
        try:
            done = self.oracle.submit([sample for sample, _ in batch])
        except RuntimeError as error:  # the oracle is closed
            for future in futures:
                future.set_exception(error)
            self._send()
        else:
            done.add_done_callback(lambda done: self._deliver(futures, done))

    def _deliver(self, futures: Sequence[Future[Reward]], done: Future[list[Reward]]) -> None:
        self._send()
        try:
            rewards = done.result()
        except Exception as error:  # of the batch as a whole
            for future in futures:
                future.set_exception(error)
        else:
            for future, reward in zip(futures, rewards, strict=True):
                future.set_result(reward)


def gathered(
    url: str | None = None, token: str | None = None, options: Mapping[str, Any] | None = None
) -> Gathered:
    """The connection of this process to a service; what is not given is read from the environment.

    Raises:
        ValueError: there is no address, or TUREEN_OPTIONS is no JSON object of options.
    """
    url = url or os.environ.get(URL)
    if not url:
        raise ValueError(f"no service is named: set {URL}, to localhost:8081 for example")
    return _connected(
        os.getpid(),  # connections do not survive a fork
        url,
        token or os.environ.get(TOKEN) or None,
        json.dumps({**_environment_options(), **(options or {})}, sort_keys=True),
    )


@lru_cache
def _connected(pid: int, url: str, token: str | None, options: str) -> Gathered:
    return Gathered(RemoteOracle(url, api_key=token, **json.loads(options)))


def _environment_options() -> dict[str, Any]:
    text = os.environ.get(OPTIONS) or "{}"
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{OPTIONS} is no JSON ({error}): {text[:80]!r}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{OPTIONS} is {text[:80]!r}; give a JSON object, name to value")
    return options


async def score_one(connection: Gathered, sample: Sample) -> Score:
    return scored(await asyncio.wrap_future(connection.submit(sample)))


def scored(reward: Reward) -> Score:
    """Raises `Unscored`."""
    if isinstance(reward, Unscorable):
        raise Unscored(
            f"A sample cannot be scored ({reward.code}): {reward.message} No reward was substituted."
        )
    return reward


def sample_of(
    prompt: str | Sequence[Any], response: str, context: str | Sequence[str] | None = None
) -> Sample:
    """A sample from text, or from messages as dictionaries."""
    if context is None:
        context = ()
    passages = (context,) if isinstance(context, str) else tuple(context)
    if isinstance(prompt, str):
        return Sample(prompt=prompt, context=passages, responses=(response,))
    messages = tuple(Message(role=one["role"], content=content_of(one)) for one in prompt)
    return Sample(messages=messages, context=passages, responses=(response,))


def content_of(message: Mapping[str, Any]) -> str:
    """The text of a message, also of one that comes in parts.

    Raises:
        ValueError: it holds something else than text.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [
        part["text"]
        for part in (content if isinstance(content, list) else [content])
        if isinstance(part, Mapping) and part.get("type") == "text"
    ]
    if not isinstance(content, list) or len(texts) < len(content):
        raise ValueError(f"a message of {message.get('role')!r} holds something else than text")
    return "".join(texts)


def described(label: Any) -> dict[str, Any]:
    """`prompt`, `messages` and `context` that ride along in a trainer's label or metadata; {} when none do.

    label: a mapping, or the JSON of one; anything else is not ours and is left alone.
    """
    if isinstance(label, str):
        try:
            label = json.loads(label)
        except ValueError:
            return {}
    if not isinstance(label, Mapping):
        return {}
    return {name: label[name] for name in _FIELDS if label.get(name) is not None}


def plain_sample(prompt: str | Sequence[Any], response: str, label: Any) -> Sample:
    """A sample from what a trainer wrote out, special tokens at the end of the response taken off.

    Raises:
        ValueError: the prompt is written out with a chat template, and no label says what it is made from.
    """
    try:
        from tureen.text.written import split, without_ending
    except ImportError as error:
        raise MissingExtra("Reading what a trainer wrote out", "torch") from error
    given = described(label)
    prompt = given.get("messages") or given.get("prompt") or prompt
    if isinstance(prompt, str) and split(prompt + "x")[2] == "found":
        raise ValueError(
            "The prompt is written out with a chat template, and the reward model has its own: give "
            '{"messages": […]} in the label or metadata of the sample, or use the service\'s own '
            "route for this trainer, which reads such text."
        )
    return sample_of(prompt, without_ending(response), given.get("context"))


def head_of(score: Score, name: str) -> float:
    """What one head says, calibrated; raises `ValueError` when the model has no such head."""
    if name not in score.heads:
        raise ValueError(f"{name!r} is no head of the model{nearest(name, score.heads)}")
    return score.heads[name].calibrated


def spans_json(score: Score) -> str:
    """The segments as one string: [[head, start, end, reward], …]."""
    return json.dumps([[s.head, s.start, s.end, s.reward] for s in score.segments or ()])
