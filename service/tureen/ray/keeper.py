"""The keeper: one for all engines. What soup is active is its to say, and to remember."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from ray import serve
from ray.actor import ActorHandle

from tureen.contracts import SoupInfo, SoupList
from tureen.engine.background import in_background
from tureen.engine.soup_store import SoupRecords, SoupStore
from tureen.engine.soups import Soups
from tureen.errors import Overloaded, TureenError
from tureen.model.directory import ModelDirectory, reweighted
from tureen.ray.config import RayConfig
from tureen.ray.course import Course, News, Report
from tureen.ray.fleet import LOOK_S, Fleet
from tureen.transports import logs
from tureen.transports.soup_source import source_of

ENGINE = "Engine"  # the deployment's name
T = TypeVar("T")


class Keeper:
    """`Soups` over the whole fleet.

    A soup becomes active in two steps: every engine forms and checks it, then it is written down
    and every engine switches. The caller hears of it when no engine that lives answers by the old
    one. An engine that joins in between does both before it is asked anything.
    """

    async def __init__(  # pyright: ignore[reportGeneralTypeIssues] Ray Serve awaits it
        self, config: RayConfig
    ) -> None:
        logs.configure(config)
        self._config = config
        source = await in_background(source_of, config, config.model[0])
        self._store: SoupStore | None = None
        self._read: SoupRecords | None = None
        if source.origin is not None:
            self._store = SoupStore(config.state_dir, source.origin.fingerprint)
            self._read = await in_background(self._store.read)
        self._source = dataclasses.replace(source, load=cast(Any, _weighing(source.origin)))
        self._soups: Soups | None = None
        self._fleet = Fleet(lambda: self._soups.records if self._soups is not None else self._read)
        self._watching = asyncio.create_task(self._fleet.watch())

    async def course(self) -> Course:
        return self._fleet.course()

    async def report(self, report: Report, actor: ActorHandle, patience_s: float) -> Course:
        """Of an engine; see `Fleet.join`."""
        return await self._fleet.join(report, actor, patience_s)

    async def news(self, seen: News | None) -> News:
        return await self._fleet.news(seen)

    async def list(self) -> SoupList | TureenError:
        return await _outcome(lambda: self._known().list())

    async def create(self, coefficients: Mapping[str, float], by: str) -> SoupInfo | TureenError:
        return await _outcome(lambda: self._known().create(coefficients, by))

    async def activate(self, fingerprint: str, by: str) -> SoupInfo | TureenError:
        return await _outcome(
            lambda: self._everywhere(lambda soups: soups.activate(fingerprint, by))
        )

    async def rollback(self, fingerprint: str | None, by: str) -> SoupInfo | TureenError:
        return await _outcome(
            lambda: self._everywhere(lambda soups: soups.rollback(fingerprint, by))
        )

    async def shadow(self, fingerprint: str, by: str) -> SoupInfo | TureenError:
        return await _outcome(lambda: self._everywhere(lambda soups: soups.shadow(fingerprint, by)))

    async def _everywhere(self, change: Callable[[Soups], Awaitable[SoupInfo]]) -> SoupInfo:
        """Returns when every engine has followed."""
        await self._complete()
        await self._fleet.settled()  # one that came later forms what the others hold
        info = await change(self._known())
        await self._fleet.settled()
        return self._known().info(info.fingerprint)

    async def _complete(self) -> None:
        """Returns when all engines that Ray Serve sends requests to have reported.

        A keeper that was just restarted knows none of them.
        """
        app = serve.get_replica_context().app_name
        while True:
            status = await asyncio.to_thread(serve.status)
            engines = status.applications[app].deployments[ENGINE].replica_states
            if self._fleet.size >= sum(n for state, n in engines.items() if state == "RUNNING"):
                return
            await asyncio.sleep(LOOK_S)

    def _known(self) -> Soups:
        """Raises Overloaded before the first engine is up."""
        if self._soups is None:
            if not self._fleet.size:
                raise Overloaded(
                    "No replica of the engine is up yet, so nothing is known of its soups; try "
                    "again.",
                    retry_after_s=LOOK_S,
                )
            self._soups = Soups(
                self._fleet,
                self._source,
                self._fleet.serving(),
                records=self._read,
                store=self._store,
                max_loaded=self._config.max_loaded_soups,
            )
        return self._soups


async def _outcome(work: Callable[[], Awaitable[T]]) -> T | TureenError:
    """Errors travel as values: raised, they would come wrapped in one of Ray's."""
    try:
        return await work()
    except TureenError as error:
        return error


def _weighing(
    origin: ModelDirectory | None,
) -> Callable[[Mapping[str, float] | None], ModelDirectory]:
    """Engines load; the keeper needs to know of what."""

    def weighed(coefficients: Mapping[str, float] | None) -> ModelDirectory:
        assert origin is not None  # or no soup could have been created
        return origin if coefficients is None else reweighted(origin, coefficients)

    return weighed
