"""A replica: the engine of `tureen serve`, which follows the keeper's course."""

from __future__ import annotations

import asyncio
import logging

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from tureen.engine.background import in_background
from tureen.engine.metrics import Metrics
from tureen.engine.remote import Answer, Asked, answer
from tureen.errors import TureenError
from tureen.ray.config import RayConfig
from tureen.ray.course import POLL_S, Course, Report
from tureen.transports import logs
from tureen.transports.soup_source import Ordered, source_of, started

KEEPER = "keeper"  # by whom a course is followed
AGAIN_S = 1.0  # after a question that the keeper did not answer

log = logging.getLogger("tureen")


class Engine:
    """Answers what doors ask. It comes up with the soup that is active, or not at all."""

    async def __init__(  # pyright: ignore[reportGeneralTypeIssues] Ray Serve awaits it
        self, config: RayConfig, keeper: DeploymentHandle
    ) -> None:
        logs.configure(config)
        self._id = serve.get_replica_context().replica_tag
        self._keeper, self._actor = keeper, ray.get_runtime_context().current_actor
        self._metrics = Metrics()
        self._version = 0  # of the course that is followed to its end
        self._failed: dict[str, str] = {}
        self._shadow: str | None = None
        self._lost: str | None = None
        course: Course = await keeper.course.remote()
        (name,) = config.model
        model = Ordered(name, await in_background(source_of, config, name), course.records)
        self._scorer, soups = await started(config, [model], self._metrics)
        self._soups = soups[model.model_id]
        await self.check_health()
        while True:
            course = await self._report(0)  # from now on the keeper waits for this engine
            if course.records is None or course.records.active == self._active:
                break
            await self._hold(course.records.active, course)
            await self._soups.activate(course.records.active, KEEPER)
        self._following = asyncio.create_task(self._follow())

    async def check_health(self) -> None:
        """Raises where Ray Serve should put another replica in the place of this one."""
        ready, reason = self._scorer.ready()
        if self._lost is not None or not ready:
            raise RuntimeError(self._lost or reason)

    async def answer(self, asked: Asked) -> Answer:
        return await answer(self._scorer, asked)

    async def metrics(self) -> tuple[str, bytes]:
        """Whose they are, and the metrics in Prometheus' text format."""
        return self._id, self._metrics.render()

    @property
    def _active(self) -> str:
        return self._scorer.model().fingerprint

    async def _report(self, patience_s: float) -> Course:
        shadow = None
        if self._shadow is not None and (report := self._soups.info(self._shadow).shadow):
            shadow = self._shadow, report
        report = Report(
            engine=self._id,
            version=self._version,
            active=self._active,
            models=self._scorer.models(),
            failed=dict(self._failed),
            shadow=shadow,
        )
        return await self._keeper.report.remote(report, self._actor, patience_s)

    async def _follow(self) -> None:
        while True:
            try:
                course = await self._report(POLL_S)
            except (RayError, RayServeException) as error:
                log.warning("the keeper does not answer: %s", type(error).__name__)
                await asyncio.sleep(AGAIN_S)
                continue
            if course.version == self._version:
                continue
            try:
                await self._go(course)
            except Exception as error:
                # It must not answer by a soup that is active no more: it is replaced.
                log.exception("the course cannot be followed")
                self._lost = f"{type(error).__name__}: {error}"
                await self._scorer.stop(0)
                return
            self._version = course.version

    async def _go(self, course: Course) -> None:
        """Holds, activates and shadows as the course says; raises where it cannot activate."""
        if course.records is None:
            return
        for fingerprint in course.held:
            try:
                await self._hold(fingerprint, course)
            except TureenError as error:
                self._failed[fingerprint] = str(error)
            else:
                self._failed.pop(fingerprint, None)
        active = course.records.active
        if active != self._active:
            await self._hold(active, course)
            await self._soups.activate(active, KEEPER)
            self._shadow = None
        if course.shadow != self._shadow:
            try:
                await self._soups.shadow(course.shadow or active, KEEPER)
            except TureenError as error:  # is not worth an engine
                log.warning("%s cannot be a shadow: %s", course.shadow, error)
            self._shadow = course.shadow

    async def _hold(self, fingerprint: str, course: Course) -> None:
        assert course.records is not None
        recorded = course.records.soups.get(fingerprint)
        if recorded is not None:
            await self._soups.create(recorded.coefficients, KEEPER)
        await self._soups.prepare(fingerprint)
