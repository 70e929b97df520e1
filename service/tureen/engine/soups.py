"""Soups of a served model: other weightings of its ingredients, formed, compared and swapped live.

A soup is formed in the background from coefficients and checked as a model is at start-up; from then
on it can shadow the active one, or take its place between two requests. What was active stays in
memory for a while, so that rolling back is a swap too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from tureen.contracts import (
    SoupAction,
    SoupEvent,
    SoupInfo,
    SoupList,
    SoupState,
)
from tureen.engine.loaded_soups import Compared, Holder, KeptTasks, Loaded, LoadedSoups, SoupSource
from tureen.engine.soup_store import Recorded, SoupRecords, SoupStore
from tureen.errors import (
    BackendFailure,
    IncompatibleSoup,
    InvalidRequest,
    UnknownSoup,
    nearest,
    quoted,
)
from tureen.model.directory import reweighted

T = TypeVar("T")


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
        self._loaded = LoadedSoups(scorer, source, active, needed=self._needed, most=max_loaded)
        fingerprint = active.info.fingerprint
        self._records = records if records is not None else SoupRecords(path=(fingerprint,))
        self._model_id, self._label = active.info.id, active.info.soup
        self._started_ns = time.time_ns()
        self._shadow: Compared | None = None
        self._awaited: str | None = None  # by the latest change
        self._reports: dict[str, Compared] = {}
        self._changing = asyncio.Lock()
        self._kept = KeptTasks()

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
            trouble=self._loaded.trouble(fingerprint),
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
        return self._loaded.state(fingerprint)

    async def _create(self, fingerprint: str, coefficients: dict[str, float], by: str) -> SoupInfo:
        async with self._changing:
            if fingerprint not in self._records.soups:
                recorded = Recorded(coefficients=coefficients, created_ns=time.time_ns())
                soups = {**self._records.soups, fingerprint: recorded}
                await self._record(SoupAction.CREATE, fingerprint, by, soups=soups)
        if fingerprint not in self._loaded:
            self._loaded.form_later(fingerprint, self._records.coefficients(fingerprint))
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
        self._loaded.make_room()

    async def _serving(self, fingerprint: str) -> Loaded:
        """Of a soup that is fit for work; forms it where it is not in memory. For a change."""
        self._awaited = fingerprint
        return await self._loaded.get(fingerprint, self._records.coefficients(fingerprint))

    def _needed(self) -> set[str | None]:
        """What has to stay in memory."""
        shadow = self._shadow.fingerprint if self._shadow is not None else None
        needed = {self._records.active, shadow}
        if self._changing.locked():
            needed.add(self._awaited)  # else it would take its place stopped
        return needed

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
        return await asyncio.shield(self._kept.start(change))
