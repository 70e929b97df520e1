"""Soups of a served model: other weightings of its ingredients, formed, compared and swapped live.

A soup is formed in the background from coefficients and checked as a model is at start-up; from then
on it can shadow the active one, or take its place between two requests. What was active stays in
memory for a while, so that rolling back is a swap too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tureen.contracts import (
    ModelInfo,
    ShadowReport,
    SoupAction,
    SoupEvent,
    SoupInfo,
    SoupList,
    SoupState,
)
from tureen.engine.background import in_background
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import Recorded, SoupRecords, SoupStore
from tureen.errors import (
    BackendFailure,
    IncompatibleSoup,
    InvalidRequest,
    TureenError,
    UnknownSoup,
    nearest,
    quoted,
)
from tureen.model.directory import ModelDirectory, reweighted
from tureen.model.manifest import ModelError

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SoupSource:
    """Where soups of a model come from.

    origin: None where there is no directory to take ingredients from.
    load: the model with other coefficients, or with its own.
    obstacle: why none can be formed here; None where they can.
    """

    origin: ModelDirectory | None
    load: Callable[[Mapping[str, float] | None], ServedModel]
    obstacle: str | None = None

    def restored(self, records: SoupRecords) -> ServedModel:
        """The model with the soup that was active. Blocks for seconds; raises as loading does."""
        coefficients = records.coefficients(records.active)
        if coefficients is not None:
            log.warning("serving the soup that was active before: %s", records.active)
        model = self.load(coefficients)
        if model.fingerprint != records.active:
            raise ModelError(
                f"{records.active} was active, and what is recorded of it makes {model.fingerprint}: "
                "restore the record in --state-dir, or remove it to serve the model as it was made."
            )
        return model


class Loaded(Protocol):
    """A soup in memory: `Serving`."""

    info: ModelInfo

    @property
    def trouble(self) -> str | None: ...


class Compared(Protocol):
    """`Shadow`."""

    fingerprint: str

    def report(self) -> ShadowReport: ...


class Holder(Protocol):
    """What holds soups of models and answers by one of each: `Scorer`, or many of them.

    What it takes is what it, or the `SoupSource`, gave.
    """

    async def prepare(self, model: Any) -> Any: ...
    def swap(self, serving: Any) -> None: ...
    async def retire(self, serving: Any) -> None: ...
    def shadow(self, serving: Any) -> Compared: ...
    def unshadow(self, shadow: Any) -> None: ...


class Soups:
    """Those of one model. For one event loop.

    Args:
        scorer: serves this model, and is started.
        active: the soup that it answers by, the active one of `records`.
        store: None keeps nothing beyond the life of the process.
        max_loaded: soups in memory, the active one among them; it and its shadow always are.
    """

    def __init__(
        self,
        scorer: Holder,
        source: SoupSource,
        active: Loaded,
        *,
        records: SoupRecords | None = None,
        store: SoupStore | None = None,
        max_loaded: int = 3,
    ) -> None:
        self._scorer, self._source, self._store = scorer, source, store
        self._max_loaded = max_loaded
        fingerprint = active.info.fingerprint
        self._records = records if records is not None else SoupRecords(path=(fingerprint,))
        self._model_id, self._label = active.info.id, active.info.soup
        self._started_ns = time.time_ns()
        self._loaded: dict[str, Loaded] = {fingerprint: active}  # least recently needed first
        self._forming: dict[str, asyncio.Task[Loaded]] = {}
        self._failed: dict[str, str] = {}
        self._shadow: Compared | None = None
        self._awaited: str | None = None  # by the latest change
        self._reports: dict[str, Compared] = {}
        self._changing, self._one_at_a_time = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def records(self) -> SoupRecords:
        return self._records

    async def list(self) -> SoupList:
        records = self._records
        return SoupList(
            model=self._model_id,
            active=records.active,
            previous=records.previous,
            soups=tuple(self.info(one) for one in dict.fromkeys((records.path[0], *records.soups))),
            history=records.history,
        )

    def info(self, fingerprint: str) -> SoupInfo:
        """
        Raises:
            UnknownSoup: never created here.
        """
        recorded, origin = self._records.soups.get(fingerprint), self._source.origin
        if recorded is None and fingerprint != self._records.path[0]:
            known = (self._records.path[0], *self._records.soups)
            raise UnknownSoup(
                f"no soup {quoted(fingerprint)} of {self._model_id} is known here"
                f"{nearest(fingerprint, known)}",
                field="fingerprint",
                got=fingerprint,
            )
        if recorded is not None:
            label = f"weighted:{len(recorded.coefficients)}"
            coefficients, created_ns = recorded.coefficients, recorded.created_ns
        elif origin is not None:
            label = origin.manifest.soup
            coefficients = {one.name: one.coefficient for one in origin.manifest.ingredients}
            created_ns = self._started_ns
        else:
            label, coefficients, created_ns = self._label, {}, self._started_ns
        report = self._reports.get(fingerprint)
        return SoupInfo(
            fingerprint=fingerprint,
            soup=label,
            state=self._state(fingerprint),
            coefficients=coefficients,
            created_ns=created_ns,
            trouble=self._failed.get(fingerprint),
            shadow=report.report() if report is not None else None,
        )

    async def create(self, coefficients: Mapping[str, float], by: str) -> SoupInfo:
        """Begins to form a soup; one that is known already is left as it is.

        Raises:
            IncompatibleSoup, InvalidRequest: it cannot be formed (`directory.reweighted`).
        """
        source = self._source
        if source.origin is None:
            raise IncompatibleSoup(
                f"{self._model_id} has no ingredients; serve a soup to weigh its ingredients anew."
            )
        made = reweighted(source.origin, coefficients)
        if made is source.origin:
            return self.info(made.fingerprint)
        if source.obstacle is not None:
            raise IncompatibleSoup(source.obstacle)
        whole = {one.name: one.coefficient for one in made.manifest.ingredients}
        return await self._to_the_end(self._create(made.fingerprint, whole, by))

    async def prepare(self, fingerprint: str) -> None:
        """Returns when this soup could take the active one's place at once.

        Raises:
            UnknownSoup. IncompatibleSoup: it failed its check.
        """
        self.info(fingerprint)
        await self._to_the_end(self._prepare(fingerprint))

    async def activate(self, fingerprint: str, by: str) -> SoupInfo:
        """Every request that comes after is answered by this soup; waits until it is formed.

        Raises:
            UnknownSoup. IncompatibleSoup: it failed its check.
        """
        self.info(fingerprint)
        return await self._to_the_end(self._activate(fingerprint, by))

    async def rollback(self, fingerprint: str | None, by: str) -> SoupInfo:
        """Activates what was active before; another time, what was active before that.

        Args:
            fingerprint: that is left, or that is returned to; None leaves whatever is active.
        Raises:
            UnknownSoup: not known, or nothing was active before. InvalidRequest: neither of the two.
        """
        if fingerprint is not None:
            self.info(fingerprint)
        return await self._to_the_end(self._rollback(fingerprint, by))

    async def shadow(self, fingerprint: str, by: str) -> SoupInfo:
        """From now on scores what the active soup scores; the active one's own ends that.

        Raises:
            UnknownSoup. IncompatibleSoup: it failed its check.
        """
        self.info(fingerprint)
        return await self._to_the_end(self._begin_shadow(fingerprint, by))

    def _state(self, fingerprint: str) -> SoupState:
        if fingerprint == self._records.active:
            return SoupState.ACTIVE
        if self._shadow is not None and fingerprint == self._shadow.fingerprint:
            return SoupState.SHADOW
        if fingerprint in self._forming:
            return SoupState.FORMING
        if fingerprint in self._failed:
            return SoupState.FAILED
        return SoupState.READY if fingerprint in self._loaded else SoupState.STORED

    async def _create(self, fingerprint: str, coefficients: dict[str, float], by: str) -> SoupInfo:
        async with self._changing:
            if fingerprint not in self._records.soups:
                recorded = Recorded(coefficients=coefficients, created_ns=time.time_ns())
                soups = {**self._records.soups, fingerprint: recorded}
                await self._record(SoupAction.CREATE, fingerprint, by, soups=soups)
        if fingerprint not in self._loaded:
            self._form_later(fingerprint)
        return self.info(fingerprint)

    async def _prepare(self, fingerprint: str) -> None:
        async with self._changing:
            await self._serving(fingerprint)

    async def _activate(self, fingerprint: str, by: str) -> SoupInfo:
        async with self._changing:
            if fingerprint != self._records.active:
                serving = await self._serving(fingerprint)
                path = (*self._records.path, fingerprint)
                await self._record(SoupAction.ACTIVATE, fingerprint, by, path=path)
                self._swap(serving)
        return self.info(fingerprint)

    async def _rollback(self, fingerprint: str | None, by: str) -> SoupInfo:
        async with self._changing:
            records = self._records
            target = records.previous
            if target is None:
                raise UnknownSoup(
                    f"no soup was active before {records.active}; there is nothing to return to: "
                    "activate the one you want."
                )
            if fingerprint not in (None, records.active, target):
                raise InvalidRequest(
                    f"{fingerprint} is not active, nor was it before; {records.active} is, and "
                    f"{target} was: name one of them, or activate the one you want.",
                    field="fingerprint",
                    got=fingerprint,
                )
            serving = await self._serving(target)
            await self._record(SoupAction.ROLLBACK, target, by, path=records.path[:-1])
            self._swap(serving)
        return self.info(target)

    async def _begin_shadow(self, fingerprint: str, by: str) -> SoupInfo:
        async with self._changing:
            if fingerprint == self._records.active:
                if self._shadow is not None:
                    await self._record(SoupAction.UNSHADOW, self._shadow.fingerprint, by)
                    self._end_shadow()
            elif self._shadow is None or self._shadow.fingerprint != fingerprint:
                serving = await self._serving(fingerprint)
                await self._record(SoupAction.SHADOW, fingerprint, by)
                self._shadow = self._reports[fingerprint] = self._scorer.shadow(serving)
        return self.info(fingerprint)

    def _end_shadow(self) -> None:
        if self._shadow is not None:
            self._scorer.unshadow(self._shadow)
        self._shadow = None

    def _swap(self, serving: Loaded) -> None:
        self._end_shadow()
        self._scorer.swap(serving)
        self._make_room(self._max_loaded)

    async def _serving(self, fingerprint: str) -> Loaded:
        """Of a soup that is fit for work; forms it where it is not in memory. For a change."""
        self._awaited = fingerprint
        serving = self._loaded.pop(fingerprint, None)
        if serving is None:
            return await asyncio.shield(self._form_later(fingerprint))
        self._loaded[fingerprint] = serving  # at the end: it is needed
        if serving.trouble is not None:
            raise BackendFailure(f"{fingerprint} is loaded and unfit: {serving.trouble}.")
        return serving

    def _form_later(self, fingerprint: str) -> asyncio.Task[Loaded]:
        forming = self._forming.get(fingerprint)
        if forming is None:
            forming = self._forming[fingerprint] = self._keep(self._form(fingerprint))
        return forming

    async def _form(self, fingerprint: str) -> Loaded:
        coefficients = self._records.coefficients(fingerprint)
        try:
            async with self._one_at_a_time:
                self._make_room(self._max_loaded - 1)
                model = await in_background(self._source.load, coefficients)
                serving = await self._scorer.prepare(model)
                trouble = serving.trouble
                if trouble is None and model.fingerprint != fingerprint:
                    trouble = f"it became {model.fingerprint}: its files have changed"
                if trouble is not None:
                    await self._scorer.retire(serving)
                    raise IncompatibleSoup(f"{fingerprint} did not pass its check: {trouble}.")
        except Exception as error:
            self._failed[fingerprint] = str(error)
            log.warning("%s cannot be formed: %s", fingerprint, error)
            if isinstance(error, TureenError):
                raise
            raise IncompatibleSoup(f"{fingerprint} cannot be formed: {error}") from error
        finally:
            del self._forming[fingerprint]
        self._failed.pop(fingerprint, None)
        self._loaded[fingerprint] = serving
        return serving

    def _make_room(self, most: int) -> None:
        """Lets the soups go that were not needed for longest."""
        shadow = self._shadow.fingerprint if self._shadow is not None else None
        needed = {self._records.active, shadow}
        if self._changing.locked():
            needed.add(self._awaited)  # else it would take its place stopped
        for fingerprint in [one for one in self._loaded if one not in needed]:
            if len(self._loaded) <= most:
                return
            self._keep(self._scorer.retire(self._loaded.pop(fingerprint)))

    async def _record(self, action: SoupAction, fingerprint: str, by: str, **changes: Any) -> None:
        """Raises BackendFailure, and nothing is changed."""
        event = SoupEvent(action=action, fingerprint=fingerprint, time_ns=time.time_ns(), by=by)
        records = self._records.after(event, **changes)
        if self._store is not None:
            try:
                await asyncio.to_thread(self._store.write, records)
            except OSError as error:
                raise BackendFailure(
                    f"{self._store.file} cannot be written ({error.strerror}), so nothing was changed: "
                    "a restart would not know of it. Make room, or start with another --state-dir."
                ) from error
        self._records = records

    async def _to_the_end(self, change: Coroutine[Any, Any, T]) -> T:
        """A caller that leaves in the middle of a change does not leave it half done."""
        return await asyncio.shield(self._keep(change))

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits hears of it
