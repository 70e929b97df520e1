"""All engines as one holder of soups; here they do nothing but report."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs Ray Serve: tureen[ray]")

from engine_fakes import PATIENCE_S
from model_info import model_info
from ray.exceptions import ActorDiedError

from tureen.contracts import ModelList, ShadowReport
from tureen.engine.soup_store import SoupRecords
from tureen.ray import fleet as fleet_module
from tureen.ray.course import Course, News, Report
from tureen.ray.fleet import Fleet, FleetShadow, merged

OLD, NEW = "sha256:old", "sha256:new"


class Actor:
    """What the fleet asks of an actor's handle: whether it lives."""

    def __init__(self) -> None:
        self.alive = True
        self.__ray_ready__ = SimpleNamespace(remote=self._ready)

    async def _ready(self) -> bool:
        if not self.alive:
            raise ActorDiedError
        return True


class Reporter:
    """An engine as the keeper knows it."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name, self.actor = fleet, name, Actor()
        self.version = 0

    async def report(self, patience_s: float = 0, active: str = OLD, **more: Any) -> Course:
        models = ModelList(default_model="toy", models=(model_info(fingerprint=active),))
        report = Report(self.name, self.version, active, models, **more)
        return await self.fleet.join(report, self.actor, patience_s)  # pyright: ignore[reportArgumentType]

    async def follow(self, **more: Any) -> None:
        """The course as it is now, to the end."""
        self.version = (await self.report()).version
        await self.report(**more)


def fleet_of() -> Fleet:
    return Fleet(lambda: SoupRecords(path=(OLD,)))


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_S))


def model(fingerprint: str) -> Any:
    return SimpleNamespace(fingerprint=fingerprint)


def test_a_soup_is_prepared_when_every_engine_has_it():
    async def test() -> None:
        fleet = fleet_of()
        one, other = Reporter(fleet, "one"), Reporter(fleet, "other")
        await one.follow()
        await other.follow()
        preparing = asyncio.create_task(fleet.prepare(model(NEW)))
        course = await one.report(PATIENCE_S)
        assert course.held == (NEW,)
        await one.follow()
        await asyncio.sleep(0)
        assert not preparing.done()
        await other.follow(failed={NEW: "no memory"})
        held = await preparing
        assert held.info.fingerprint == NEW
        assert held.trouble == "on engine other: no memory"
        await fleet.retire(held)
        assert fleet.course().held == ()

    run(test)


def test_an_engine_that_died_is_not_waited_for_and_one_that_lives_is(monkeypatch):
    monkeypatch.setattr(fleet_module, "LOOK_S", 0.01)

    async def test() -> None:
        fleet = fleet_of()
        one, other = Reporter(fleet, "one"), Reporter(fleet, "other")
        await one.follow()
        await other.follow()
        fleet.unshadow(FleetShadow("sha256:one"))  # any change
        settling = asyncio.create_task(fleet.settled())
        await one.follow()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(settling), 0.2)  # many looks; it lives
        other.actor.alive = False
        await settling
        assert fleet.size == 1

    run(test)


def test_an_engine_hears_of_a_change_at_once_and_of_none_after_its_patience():
    async def test() -> None:
        fleet = fleet_of()
        one = Reporter(fleet, "one")
        await one.follow()
        assert (await one.report(0.01)).version == one.version
        waiting = asyncio.create_task(one.report(PATIENCE_S))
        await asyncio.sleep(0)
        fleet.unshadow(FleetShadow("sha256:one"))
        assert (await waiting).version > one.version

    run(test)


def test_doors_are_told_of_the_model_by_which_is_answered():
    async def test() -> None:
        fleet = fleet_of()
        assert await fleet.news(None) == News(None, "no replica of the engine is up yet")
        one = Reporter(fleet, "one")
        waiting = asyncio.create_task(fleet.news(await fleet.news(None)))
        await one.report(active=NEW)  # has not switched yet, or not back
        news = await waiting
        assert news == News(None, None)
        waiting = asyncio.create_task(fleet.news(news))
        await one.report(active=OLD)
        told = await waiting
        assert told.models is not None
        assert told.models.models[0].fingerprint == OLD

    run(test)


def test_shadows_of_the_engines_are_one():
    """Counts: 30 + 10. Means: (30 · 1 + 10 · 5) / 40 = 2, and so on; the third compared too few."""
    few = ShadowReport(responses=3, skipped=1, failed=2)
    one = ShadowReport(
        responses=30,
        skipped=0,
        failed=0,
        rank_correlation=1.0,
        drift_psi=0.0,
        mean_active=1.0,
        mean_shadow=2.0,
        largest_change=0.5,
    )
    other = ShadowReport(
        responses=10,
        skipped=5,
        failed=0,
        rank_correlation=0.6,
        drift_psi=0.2,
        mean_active=5.0,
        mean_shadow=-2.0,
        largest_change=7.0,
    )
    report = merged([one, few, other])
    assert (report.responses, report.skipped, report.failed) == (43, 6, 2)
    assert report.rank_correlation == pytest.approx(0.9)
    assert report.drift_psi == pytest.approx(0.05)
    assert report.mean_active == pytest.approx(2.0)
    assert report.mean_shadow == pytest.approx(1.0)
    assert report.largest_change == 7.0
    assert merged([few]) == few
    assert merged([]) == ShadowReport(responses=0, skipped=0, failed=0)
