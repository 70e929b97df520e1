"""One model at work: text to tokens, tokens to the device, values to scores."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from tureen.contracts import (
    Aggregation,
    Priority,
    Redistribution,
    Sample,
    Score,
    ScoreOptions,
    Timings,
)
from tureen.engine.background import in_background
from tureen.engine.begin_tokens import BeginTokens
from tureen.engine.cache import ValueCache
from tureen.engine.caller import ANONYMOUS, CALLER, IN_PROCESS
from tureen.engine.device import Device
from tureen.engine.ensemble import judge
from tureen.engine.inflight import InFlight, Ticket
from tureen.engine.limits import EngineLimits
from tureen.engine.metrics import Metrics
from tureen.engine.permits import wait_hint_s
from tureen.engine.plan import Plan
from tureen.engine.queue import Entry, Queue
from tureen.engine.reward_watch import Reading, repetition
from tureen.engine.selfcheck import run_self_check, windows_of
from tureen.engine.served import ServedModel
from tureen.engine.tracing import tell
from tureen.engine.worker import Worker
from tureen.errors import BackendFailure, TureenError
from tureen.model.redistribution import ablated_windows
from tureen.text.alignment import token_rewards
from tureen.text.encoding import EncodedResponse, Window

log = logging.getLogger(__name__)

_CHUNK_RESPONSES = 16  # are tokenised at a time, so that a big request feeds the device early
_SHORT_RESPONSES, _SHORT_CHARACTERS = 4, 1024
"""Of a request that is tokenised in place: to hand it to a thread would take longer than that."""
_JUDGED_AT_ONCE = 16  # responses, before the loop may do something else

Outcome = tuple[Score, ...] | TureenError
"""Of one sample."""


@dataclass(slots=True)
class _Encoded:
    """A sample on its way.

    windows: for each response, all that is run: its own windows, then those of each part taken out.
    keys, entries: one for each of them. repetition: of each response.
    """

    responses: list[EncodedResponse]
    windows: list[list[Window]]
    keys: list[list[bytes]]
    repetition: list[float]
    entries: list[list[Entry]] = field(default_factory=list)


class Serving:
    """Lives in one event loop, from `start` to `stop`. device: its backend's, with others on it."""

    def __init__(
        self,
        model: ServedModel,
        limits: EngineLimits,
        cache: ValueCache,
        metrics: Metrics,
        tokenizer_threads: ThreadPoolExecutor,
        device: Device,
    ) -> None:
        self.model = model
        self._device = device
        self.info = model.info(limits)
        self._limits = limits
        self._metrics = metrics.model(self.info, model.manifest.reward_reference)
        self._threads = tokenizer_threads
        self._begin_tokens = BeginTokens.of(model.encoder.tokenizer)
        self._in_flight = InFlight(cache, self._metrics)
        kind = model.redistribution or ""  # attention stands among the values
        self._key = hashlib.blake2b(f"{model.fingerprint} {kind}".encode(), digest_size=16)
        self._worker: Worker | None = None
        self._trouble: str | None = "the start-up check has not run"
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def trouble(self) -> str | None:
        """Why this model is not fit for work; None when it is."""
        if self._trouble is not None or self._worker is None:
            return self._trouble
        return self._worker.trouble

    def wait_hint_s(self) -> float:
        """How long what is there will take."""
        backlog = self._worker.backlog() if self._worker is not None else (0, None)
        return wait_hint_s(*backlog)

    async def start(self) -> None:
        """Runs the start-up check; a model that fails it stays in trouble and serves nothing."""
        try:
            self._trouble = await in_background(run_self_check, self.model)
        except Exception as error:
            log.exception("%s: the start-up check failed", self.model.model_id)
            self._trouble = f"the start-up check raised {type(error).__name__}: {error}"
        if self._trouble is not None:
            log.error("%s is not ready: %s", self.model.model_id, self._trouble)
            return
        batch = self._limits.batch_limits(self.model.backend.info.batches)
        queue = Queue(
            max_batch_tokens=batch.max_batch_tokens,
            max_batch_requests=batch.max_batch_requests,
            overhead_tokens=batch.overhead_tokens,
            packs=self.model.backend.info.packs,
        )
        self._worker = Worker(
            self.model.backend,
            queue,
            self._in_flight.deliver,
            self._metrics,
            probe=windows_of(self.model)[0],
            model=self.model.model_id,
            device=self._device,
            pad_id=self.model.pad_id,
            streams=self.model.backend.info.streams,
        )
        self._in_flight.attach(self._worker)
        self._metrics.watch_queue(self._worker.waiting)
        self._metrics.watch_drain(lambda worker=self._worker: worker.backlog()[1])
        self._worker.start()

    def report_to(self, metrics: Metrics) -> None:
        """From now on it is counted there; the windows of rewards begin anew."""
        metrics.model(self.info, self.model.manifest.reward_reference, into=self._metrics)
        if self._worker is not None:
            self._metrics.watch_queue(self._worker.waiting)
            self._metrics.watch_drain(lambda worker=self._worker: worker.backlog()[1])

    @contextmanager
    def used(self) -> Iterator[None]:
        """For the time of a request that may come to `evaluate`."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unused(self) -> None:
        """Returns when no request is on its way."""
        await self._unused.wait()

    async def stop(self, timeout_s: float) -> None:
        self._trouble = "stopped"
        if self._worker is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._worker.stop, timeout_s)
        self.model.backend.close()

    async def evaluate(
        self,
        samples: Sequence[Sample],
        options: ScoreOptions,
        *,
        lane: Priority,
        deadline_ns: int | None,
    ) -> tuple[list[Outcome], Timings]:
        """One outcome a sample. Cancelling it drops what is not on the device yet.

        Raises:
            TureenError: the options are wrong, or the model is not fit for work.
        """
        started_ns = time.monotonic_ns()
        plan = self.model.plan(options)
        if self._worker is None:
            raise BackendFailure(
                f"model {self.model.model_id!r} does not serve: {self.trouble}. "
                "Wait until /readyz says so, or look into the log."
            )
        ticket = Ticket(lane, deadline_ns)
        try:
            encoded, tokenize_ns = await self._encode_and_submit(samples, options, plan, ticket)
            tokenized_ns = time.monotonic_ns()
            await ticket.wait()
            outcomes = await self._judge(samples, encoded, options, plan)
        finally:
            if ticket.missing:
                self._in_flight.abandon(ticket)
        queue_ns = max((entry.queue_ns for entry in ticket.entries), default=0)
        self._metrics.served(tokenize_ns=tokenize_ns, queue_ns=queue_ns)
        caller = CALLER.get()
        if caller is not None and caller.trace is not None:
            tell(caller.trace, self.info, outcomes, ticket.entries, (started_ns, tokenized_ns))
        return outcomes, Timings(
            tokenize_ns=tokenize_ns,
            queue_ns=queue_ns,
            forward_ns=max((entry.forward_ns for entry in ticket.entries), default=0),
            total_ns=time.monotonic_ns() - started_ns,
        )

    async def _encode_and_submit(
        self, samples: Sequence[Sample], options: ScoreOptions, plan: Plan, ticket: Ticket
    ) -> tuple[list[_Encoded | TureenError], int]:
        loop = asyncio.get_running_loop()
        caller = CALLER.get()
        route = caller.route if caller is not None else IN_PROCESS
        encoded: list[_Encoded | TureenError] = []
        tokenize_ns = 0
        short = _is_short(samples)
        for chunk in _chunks(samples):
            some, took_ns = (
                self._encode(chunk, options, plan, route)
                if short
                else await loop.run_in_executor(
                    self._threads, self._encode, chunk, options, plan, route
                )
            )
            tokenize_ns += took_ns
            encoded += some
            self._submit([one for one in some if isinstance(one, _Encoded)], ticket)
        return encoded, tokenize_ns

    def _encode(
        self, samples: Sequence[Sample], options: ScoreOptions, plan: Plan, route: str
    ) -> tuple[list[_Encoded | TureenError], int]:
        """On a tokenizer thread."""
        started_ns = time.monotonic_ns()
        encoded: list[_Encoded | TureenError] = []
        for sample in samples:
            try:
                responses = self.model.encoder.encode(sample, plan.granularities, options.truncate)
                windows = [_windows(one, plan) for one in responses]
                keys = [[self._key_of(window) for window in some] for some in windows]
                self._metrics.begun(route, *self._begin_tokens.count(responses))
                repeated = [repetition(one.response_ids) for one in responses]
                encoded.append(_Encoded(responses, windows, keys, repeated))
            except TureenError as error:
                encoded.append(error)
            except Exception as error:  # one sample's trouble must not become its neighbours'
                # Only where and what: the exception's own words may quote the sample.
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error(
                    "a sample could not be encoded: %s at %s:%d",
                    type(error).__name__,
                    place.filename,
                    place.lineno or 0,
                )
                encoded.append(
                    BackendFailure(
                        f"the sample could not be turned into tokens ({type(error).__name__}); "
                        "nothing of it was scored: report it."
                    )
                )
        return encoded, time.monotonic_ns() - started_ns

    def _key_of(self, window: Window) -> bytes:
        """Of the model's fingerprint and all that the device is given of a window."""
        key = self._key.copy()
        key.update(len(window.input_ids).to_bytes(4, "little"))  # where one array ends
        key.update(window.input_ids.tobytes())
        key.update(window.token_type_ids.tobytes())
        key.update(window.spans.tobytes())
        return key.digest()

    def _submit(self, encoded: Sequence[_Encoded], ticket: Ticket) -> None:
        entries = iter(
            self._in_flight.request(
                [
                    (key, window)
                    for one in encoded
                    for windows, keys in zip(one.windows, one.keys, strict=True)
                    for key, window in zip(keys, windows, strict=True)
                ],
                ticket,
            )
        )
        for one in encoded:
            one.entries = [[next(entries) for _ in keys] for keys in one.keys]

    async def _judge(
        self,
        samples: Sequence[Sample],
        encoded: Sequence[_Encoded | TureenError],
        options: ScoreOptions,
        plan: Plan,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        judged = 0
        caller = CALLER.get()
        client = caller.client if caller is not None else ANONYMOUS
        own = self._comparable(plan)
        for sample, one in zip(samples, encoded, strict=True):
            try:
                if isinstance(one, TureenError):
                    raise one
                some = [
                    _score(sample, number, one, options, plan, own)
                    for number in range(len(one.responses))
                ]
            except TureenError as error:
                self._metrics.unscorable(client)
                outcomes.append(error)
                continue
            scores, readings = tuple(score for score, _ in some), [reading for _, reading in some]
            self._metrics.scored(client, scores, readings)
            outcomes.append(scores)
            judged += len(scores)
            if judged >= _JUDGED_AT_ONCE:
                judged = 0
                await asyncio.sleep(0)
        return outcomes

    def _comparable(self, plan: Plan) -> bool:
        """Whether the rewards are on the scale of the model card's."""
        own = [head.weight for head in self.model.heads]
        return plan.aggregation is Aggregation.MEAN and plan.weights.tolist() == own


def _windows(response: EncodedResponse, plan: Plan) -> list[Window]:
    windows = list(response.windows)
    if plan.redistribution is Redistribution.ABLATION:
        windows += chain.from_iterable(ablated_windows(response))
    return windows


def _score(
    sample: Sample,
    number: int,
    encoded: _Encoded,
    options: ScoreOptions,
    plan: Plan,
    comparable: bool,
) -> tuple[Score, Reading]:
    """Of response `number`; raises what one of its windows failed with."""
    response = encoded.responses[number]
    values = []
    for entry in encoded.entries[number]:
        if entry.error is not None:
            raise entry.error
        assert entry.values is not None  # the ticket waited for it
        values.append(entry.values)
    own = len(response.windows)
    ablated = [values[start : start + own] for start in range(own, len(values), own)]
    judgement = judge(values[:own], response.units, plan, ablated)
    offsets = sample.offsets[number] if sample.offsets is not None else None
    score = Score(
        reward=judgement.reward,
        heads=judgement.heads,
        segments=judgement.segments if options.segments else None,
        uncertainty=judgement.uncertainty,
        members=judgement.members,
        token_rewards=(
            tuple(token_rewards(judgement.segments, offsets)) if offsets is not None else None
        ),
        tokens=response.tokens,
        truncated_tokens=response.truncated_tokens,
    )
    reading = Reading(
        reward=judgement.reward,
        tokens=len(response.response_ids),
        repetition=encoded.repetition[number],
        members=judgement.of_members,
        comparable=comparable,
    )
    return score, reading


def _is_short(samples: Sequence[Sample]) -> bool:
    if sum(max(1, len(one.responses)) for one in samples) > _SHORT_RESPONSES:
        return False
    texts = chain.from_iterable(
        (one.prompt or "", *one.context, *one.responses, *(m.content for m in one.messages or ()))
        for one in samples
    )
    return sum(map(len, texts)) <= _SHORT_CHARACTERS


def _chunks(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Runs of samples with about `_CHUNK_RESPONSES` responses, at least one sample each."""
    start = responses = 0
    for end, sample in enumerate(samples, start=1):
        responses += len(sample.responses)
        if responses >= _CHUNK_RESPONSES or end == len(samples):
            yield samples[start:end]
            start, responses = end, 0
