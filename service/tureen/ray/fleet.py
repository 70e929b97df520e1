"""All engines as one holder of soups: what `Soups` asks of a `Scorer`, done by every one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError

from tureen.contracts import ModelInfo, ModelList, ShadowReport
from tureen.engine.soup_store import SoupRecords
from tureen.model.directory import ModelDirectory
from tureen.ray.course import POLL_S, Course, News, Report

LOOK_S = 1.0  # between two looks at whether an engine that is waited for lives
SILENT_S = 2 * POLL_S  # after which an engine is looked at without being waited for


@dataclass(slots=True)
class Member:
    """An engine. heard_s: on the clock of time.monotonic."""

    report: Report
    actor: ActorHandle
    heard_s: float


class HeldSoup:
    """A soup that every engine holds, or could not form."""

    def __init__(self, fleet: Fleet, info: ModelInfo) -> None:
        self._fleet, self.info = fleet, info

    @property
    def trouble(self) -> str | None:
        return self._fleet.trouble(self.info.fingerprint)


class FleetShadow:
    """What the engines compared; those that are gone as they last said."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.parts: dict[str, ShadowReport] = {}  # by engine

    def report(self) -> ShadowReport:
        return merged(list(self.parts.values()))


class Fleet:
    """For one event loop, the keeper's.

    Args:
        records: what is active, now; None while it is not known.
    """

    def __init__(self, records: Callable[[], SoupRecords | None]) -> None:
        self._records = records
        self._members: dict[str, Member] = {}
        self._held: dict[str, HeldSoup] = {}
        self._shadow: FleetShadow | None = None
        self._version = time.time_ns()  # another keeper's courses have had others
        self._turned = asyncio.Event()

    def course(self) -> Course:
        shadow = self._shadow.fingerprint if self._shadow is not None else None
        return Course(self._version, self._records(), tuple(self._held), shadow)

    async def join(self, report: Report, actor: ActorHandle, patience_s: float) -> Course:
        """Takes the report of an engine in; the course, where possible one it does not follow yet."""
        self._members[report.engine] = Member(report, actor, time.monotonic())
        if report.shadow is not None and self._shadow is not None:
            fingerprint, compared = report.shadow
            if fingerprint == self._shadow.fingerprint:
                self._shadow.parts[report.engine] = compared
        self._turn()
        await self._until(lambda: self._version != report.version, patience_s)
        return self.course()

    async def news(self, seen: News | None) -> News:
        """For a door that has seen `seen`: what is different, or the same after a while."""
        await self._until(lambda: self._news() != seen, POLL_S)
        return self._news()

    async def settled(self) -> None:
        """Returns when every engine that lives follows the course as it is now."""
        version = self._version

        def late() -> list[Member]:
            return [one for one in self._members.values() if one.report.version < version]

        while not await self._until(lambda: not late(), LOOK_S):
            await self._bury(late())

    async def watch(self) -> None:
        """Finds out for ever which engines have died."""
        while True:
            await asyncio.sleep(SILENT_S / 2)
            silent_s = time.monotonic() - SILENT_S
            await self._bury([one for one in self._members.values() if one.heard_s < silent_s])

    @property
    def size(self) -> int:
        return len(self._members)

    def trouble(self, fingerprint: str) -> str | None:
        """Why an engine cannot form it."""
        for one in self._members.values():
            if fingerprint in one.report.failed:
                return f"on engine {one.report.engine}: {one.report.failed[fingerprint]}"
        return None

    # What `Soups` asks of a `Scorer`.

    def serving(self) -> HeldSoup:
        models = self._models()
        assert models is not None  # nothing is asked before an engine has reported
        return HeldSoup(self, models.models[0])

    async def prepare(self, model: ModelDirectory) -> HeldSoup:
        info = replace(self.serving().info, fingerprint=model.fingerprint)
        held = self._held[model.fingerprint] = HeldSoup(self, info)
        self._change()
        await self.settled()
        return held

    def swap(self, serving: HeldSoup) -> None:
        """Engines switch as soon as they hear of it; the records say to what."""
        self._change()

    async def retire(self, serving: HeldSoup) -> None:
        self._held.pop(serving.info.fingerprint, None)
        self._change()

    def shadow(self, serving: HeldSoup) -> FleetShadow:
        self._shadow = FleetShadow(serving.info.fingerprint)
        self._change()
        return self._shadow

    def unshadow(self, shadow: FleetShadow) -> None:
        self._shadow = None
        self._change()

    def _change(self) -> None:
        self._version += 1
        self._turn()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = asyncio.Event()

    async def _until(self, held: Callable[[], bool], within_s: float) -> bool:
        """Whether it held before the time was over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not held():
                    await self._turned.wait()
        return held()

    async def _bury(self, members: list[Member]) -> None:
        """Leaves out those that Ray knows to be dead."""
        for one in members:
            if await _is_dead(one.actor):
                if self._members.get(one.report.engine) is one:
                    del self._members[one.report.engine]
                self._turn()

    def _models(self) -> ModelList | None:
        records = self._records()
        for one in self._members.values():
            if records is None or one.report.active == records.active:
                return one.report.models
        return None

    def _news(self) -> News:
        trouble = None if self._members else "no replica of the engine is up yet"
        return News(self._models(), trouble)


async def _is_dead(actor: ActorHandle) -> bool:
    ready: Any = actor.__ray_ready__
    try:
        async with asyncio.timeout(LOOK_S):
            await ready.remote()
    except ActorDiedError:
        return True
    except (TimeoutError, RayError):  # nobody knows yet
        return False
    return False


def merged(parts: list[ShadowReport]) -> ShadowReport:
    """Of several engines, each of which compared its share of the requests.

    Counts add up, means are weighted by the responses behind them, the largest change is the
    largest. Rank correlation and drift are means of the engines' own, weighted so: each engine sees
    a random share, and what they compared does not travel.
    """
    known = [one for one in parts if one.rank_correlation is not None]
    weight = sum(one.responses for one in known)

    def mean(name: str) -> float | None:
        if not known:
            return None
        return sum(getattr(one, name) * one.responses for one in known) / weight

    return ShadowReport(
        responses=sum(one.responses for one in parts),
        skipped=sum(one.skipped for one in parts),
        failed=sum(one.failed for one in parts),
        rank_correlation=mean("rank_correlation"),
        drift_psi=mean("drift_psi"),
        mean_active=mean("mean_active"),
        mean_shadow=mean("mean_shadow"),
        largest_change=max((one.largest_change or 0.0 for one in known), default=None),
    )
