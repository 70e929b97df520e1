"""One model at work: text to tokens, tokens to the device, values to scores."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tureen.contracts import (
    Aggregation,
    Priority,
    Sample,
    Score,
    ScoreOptions,
    Timings,
    Truncate,
)
from tureen.engine.background import in_background
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
from tureen.engine.reward_watch import Reading
from tureen.engine.selfcheck import run_self_check, windows_of
from tureen.engine.served import ServedModel
from tureen.engine.tokenizing import SampleTokenizer, Tokenized, TokenizedSample
from tureen.engine.tracing import tell
from tureen.engine.worker import Worker
from tureen.errors import BackendFailure, TureenError
from tureen.text.alignment import token_rewards
from tureen.text.encoding import Window

log = logging.getLogger(__name__)

_JUDGED_AT_ONCE = 16  # responses, before the loop may do something else

Outcome = tuple[Score, ...] | TureenError
"""Of one sample."""


@dataclass(slots=True)
class _Submitted:
    """A sample on its way. entries: for each response, one for each of its windows."""

    tokenized: TokenizedSample
    entries: list[list[Entry]]


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
        self.tokenizer = SampleTokenizer.of(model.encoder, model.heads, model.redistribution)
        self._in_flight = InFlight(cache, self._metrics)
        kind = model.redistribution or ""  # attention stands among the values
        self._key = hashlib.blake2b(f"{model.fingerprint} {kind}".encode(), digest_size=16).digest()
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
        tokenized: Tokenized | None = None,
    ) -> tuple[list[Outcome], Timings]:
        """One outcome a sample. Cancelling it drops what is not on the device yet.

        Args:
            tokenized: the samples, where a front end did that.
        Raises:
            TureenError: the options are wrong, or the model is not fit for work.
        """
        started_ns = time.monotonic_ns() - (tokenized[1] if tokenized is not None else 0)
        plan = self.tokenizer.plan(options)
        if self._worker is None:
            raise BackendFailure(
                f"model {self.model.model_id!r} does not serve: {self.trouble}. "
                "Wait until /readyz says so, or look into the log."
            )
        ticket = Ticket(lane, deadline_ns)
        try:
            submitted, tokenize_ns = await self._submit(
                samples, plan, options.truncate, tokenized, ticket
            )
            tokenized_ns = time.monotonic_ns()
            await ticket.wait()
            outcomes = await self._judge(samples, submitted, options, plan)
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

    async def _submit(
        self,
        samples: Sequence[Sample],
        plan: Plan,
        truncate: Truncate,
        tokenized: Tokenized | None,
        ticket: Ticket,
    ) -> tuple[list[_Submitted | TureenError], int]:
        """The samples on their way to the device, and how long it took to tokenise them."""
        if tokenized is not None:
            some, tokenize_ns = tokenized
            return self._request(some, ticket), tokenize_ns
        submitted: list[_Submitted | TureenError] = []
        tokenize_ns = 0
        chunks = self.tokenizer.in_chunks(
            samples, plan, truncate, self._threads, alone=self._users == 1
        )
        async for some, took_ns in chunks:
            tokenize_ns += took_ns
            submitted += self._request(some, ticket)
        return submitted, tokenize_ns

    def _request(
        self, some: Sequence[TokenizedSample | TureenError], ticket: Ticket
    ) -> list[_Submitted | TureenError]:
        caller = CALLER.get()
        route = caller.route if caller is not None else IN_PROCESS
        asked: list[tuple[bytes, Window]] = []
        for one in some:
            if isinstance(one, TokenizedSample):
                self._metrics.begun(route, one.doubled_bos, one.missing_bos)
                for windows, digests in zip(one.windows, one.digests, strict=True):
                    keys = (self._key + digest for digest in digests)
                    asked += zip(keys, windows, strict=True)
        entries = iter(self._in_flight.request(asked, ticket))
        return [
            _Submitted(one, [[next(entries) for _ in windows] for windows in one.windows])
            if isinstance(one, TokenizedSample)
            else one
            for one in some
        ]

    async def _judge(
        self,
        samples: Sequence[Sample],
        submitted: Sequence[_Submitted | TureenError],
        options: ScoreOptions,
        plan: Plan,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        judged = 0
        caller = CALLER.get()
        client = caller.client if caller is not None else ANONYMOUS
        own = self._comparable(plan)
        for sample, one in zip(samples, submitted, strict=True):
            try:
                if isinstance(one, TureenError):
                    raise one
                some = [
                    _score(sample, number, one, options, plan, own)
                    for number in range(len(one.entries))
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


def _score(
    sample: Sample,
    number: int,
    submitted: _Submitted,
    options: ScoreOptions,
    plan: Plan,
    comparable: bool,
) -> tuple[Score, Reading]:
    """Of response `number`; raises what one of its windows failed with."""
    response = submitted.tokenized.responses[number]
    values = []
    for entry in submitted.entries[number]:
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
        repetition=submitted.tokenized.repetition[number],
        members=judgement.of_members,
        comparable=comparable,
    )
    return score, reading
