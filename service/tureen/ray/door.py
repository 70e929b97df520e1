"""A door: HTTP and gRPC of `tureen serve`, over engines that live elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from tureen.contracts import SoupInfo, SoupList
from tureen.engine.metrics import Metrics
from tureen.engine.remote import Answer, Asked, RemoteScorer
from tureen.engine.scoring import SoupKeeping
from tureen.errors import BackendFailure, Overloaded, TureenError
from tureen.ray.config import RayConfig
from tureen.ray.course import News
from tureen.ray.exposition import joined
from tureen.transports import logs
from tureen.transports.admission import Admission
from tureen.transports.server import Doors
from tureen.transports.tracing import tracing_of

ATTEMPTS = 3  # at a request whose engine died
AGAIN_S = 1.0

log = logging.getLogger("tureen")


class Door:
    """Listens from its start on; a request is admitted while an engine is up."""

    async def __init__(  # pyright: ignore[reportGeneralTypeIssues] Ray Serve awaits it
        self, config: RayConfig, engine: DeploymentHandle, keeper: DeploymentHandle
    ) -> None:
        logs.configure(config)
        self._config, self._engine, self._keeper = config, engine, keeper
        self._seen: News | None = None
        self._admission = FleetAdmission(config, engine)
        self._scorer = RemoteScorer(self._ask, config.limits(), self._admission.metrics)
        self._doors = Doors(config, self._admission)
        await self._doors.open()
        self._admission.open(self._scorer, lambda _: FleetSoups(self))
        self._watching = asyncio.create_task(self._watch())

    async def check_health(self) -> None:
        if self._watching.done():
            raise RuntimeError("the door hears nothing of the engines any more")

    async def addresses(self) -> tuple[str, int, int]:
        """In words, and the ports of HTTP and gRPC."""
        return self._doors.addresses, self._doors.http_port, self._doors.grpc_port

    async def __del__(self) -> None:
        """Ray Serve awaits it when the door is to leave: what was admitted is answered first."""
        self._admission.close("the server is leaving")
        await self._doors.health.refresh()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._admission.drained()
        self._watching.cancel()
        await self._doors.close()

    async def changed(self, method: str, *arguments: object) -> Any:
        """What a method of the keeper returns; raises what it could not do."""
        try:
            outcome = await getattr(self._keeper, method).remote(*arguments)
        except (RayError, RayServeException) as error:
            raise _unreachable("the keeper of the soups", error) from error
        if isinstance(outcome, TureenError):
            raise outcome
        self._learn(await self._keeper.news.remote(None))  # before the caller hears of it
        return outcome

    async def _ask(self, asked: Asked) -> Answer:
        """The answer of one engine. Scoring changes nothing, so another may be asked when it died."""
        attempt = 0
        while True:
            attempt += 1
            response = self._engine.answer.remote(asked)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except BackPressureError as error:
                raise Overloaded(
                    f"Every replica has all it takes, and {error} Try again in {AGAIN_S:g} s.",
                    retry_after_s=AGAIN_S,
                ) from None
            except RayTaskError as error:
                if not isinstance(error, TaskCancelledError):
                    log.error("an engine failed: %s", error)
                    raise BackendFailure(
                        "An engine failed on this request; its log has the details. Try again."
                    ) from error
                raise
            except (RayError, RayServeException) as error:
                log.warning("an engine was lost (%s), attempt %d", type(error).__name__, attempt)
                if attempt == ATTEMPTS:
                    raise _unreachable("the engine", error) from error

    async def _watch(self) -> None:
        while True:
            try:
                self._learn(await self._keeper.news.remote(self._seen))
            except (RayError, RayServeException) as error:
                log.warning("the keeper does not answer: %s", type(error).__name__)
                await asyncio.sleep(AGAIN_S)

    def _learn(self, news: News) -> None:
        self._seen = news
        self._scorer.learn(news.models, news.trouble)


class FleetSoups(SoupKeeping):
    """The keeper's, through a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def list(self) -> SoupList:
        return await self._door.changed("list")

    async def create(self, coefficients: Mapping[str, float], by: str) -> SoupInfo:
        return await self._door.changed("create", dict(coefficients), by)

    async def activate(self, fingerprint: str, by: str) -> SoupInfo:
        return await self._door.changed("activate", fingerprint, by)

    async def rollback(self, fingerprint: str | None, by: str) -> SoupInfo:
        return await self._door.changed("rollback", fingerprint, by)

    async def shadow(self, fingerprint: str, by: str) -> SoupInfo:
        return await self._door.changed("shadow", fingerprint, by)


class FleetAdmission(Admission):
    """Its metrics are the door's own and, at the first door, those of all engines."""

    def __init__(self, config: RayConfig, engine: DeploymentHandle) -> None:
        super().__init__(config, Metrics(), tracing_of(config))
        self._engine = engine

    async def exposition(self) -> bytes:
        context = serve.get_replica_context()
        parts = [(context.replica_tag, self.metrics.render())]
        if context.rank.rank == 0:  # each engine's are shown once
            with suppress(RayError, RayServeException):
                parts += await self._engine.broadcast("metrics").results_async(
                    return_exceptions=True
                )
        return joined(part for part in parts if isinstance(part, tuple))


def _unreachable(what: str, error: Exception) -> Overloaded:
    return Overloaded(
        f"{what} cannot be reached ({type(error).__name__}). Try again in {AGAIN_S:g} s.",
        retry_after_s=AGAIN_S,
    )
