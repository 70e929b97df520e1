"""Soups in memory: where they come from, what holds them, and how they are formed one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tureen.contracts import ModelInfo, ShadowReport, SoupState
from tureen.engine.background import in_background
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import SoupRecords
from tureen.errors import BackendFailure, IncompatibleSoup, TureenError
from tureen.model.directory import ModelDirectory
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


class LoadedSoups:
    """Those of one model. For one event loop.

    Args:
        active: the soup that is served.
        needed: fingerprints of those that stay.
        most: soups in memory; those that are needed always are.
    """

    def __init__(
        self,
        holder: Holder,
        source: SoupSource,
        active: Loaded,
        *,
        needed: Callable[[], Collection[str | None]],
        most: int,
    ) -> None:
        self._holder, self._source = holder, source
        self._needed, self._most = needed, most
        self._loaded = {active.info.fingerprint: active}  # least recently needed first
        self._forming: dict[str, asyncio.Task[Loaded]] = {}
        self._failed: dict[str, str] = {}
        self._one_at_a_time = asyncio.Lock()
        self._kept = KeptTasks()

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self._loaded

    def state(self, fingerprint: str) -> SoupState:
        if fingerprint in self._forming:
            return SoupState.FORMING
        if fingerprint in self._failed:
            return SoupState.FAILED
        return SoupState.READY if fingerprint in self._loaded else SoupState.STORED

    def trouble(self, fingerprint: str) -> str | None:
        """Why it could not be formed, when that was tried last."""
        return self._failed.get(fingerprint)

    async def get(self, fingerprint: str, coefficients: Mapping[str, float] | None) -> Loaded:
        """A soup that is fit for work; forms it where it is not in memory.

        Raises:
            IncompatibleSoup: it failed its check. BackendFailure: it no longer passes it.
        """
        soup = self._loaded.pop(fingerprint, None)
        if soup is None:
            return await asyncio.shield(self.form_later(fingerprint, coefficients))
        self._loaded[fingerprint] = soup  # at the end: it is needed
        if soup.trouble is not None:
            raise BackendFailure(f"{fingerprint} is loaded and unfit: {soup.trouble}.")
        return soup

    def form_later(
        self, fingerprint: str, coefficients: Mapping[str, float] | None
    ) -> asyncio.Task[Loaded]:
        """Begins to form it, unless that is under way."""
        forming = self._forming.get(fingerprint)
        if forming is None:
            forming = self._kept.start(self._form(fingerprint, coefficients))
            self._forming[fingerprint] = forming
        return forming

    def make_room(self, for_more: int = 0) -> None:
        """Lets the soups go that were not needed for longest."""
        needed = self._needed()
        for fingerprint in [one for one in self._loaded if one not in needed]:
            if len(self._loaded) <= self._most - for_more:
                return
            self._kept.start(self._holder.retire(self._loaded.pop(fingerprint)))

    async def _form(self, fingerprint: str, coefficients: Mapping[str, float] | None) -> Loaded:
        try:
            async with self._one_at_a_time:
                self.make_room(for_more=1)
                model = await in_background(self._source.load, coefficients)
                soup = await self._holder.prepare(model)
                trouble = soup.trouble
                if trouble is None and model.fingerprint != fingerprint:
                    trouble = f"it became {model.fingerprint}: its files have changed"
                if trouble is not None:
                    await self._holder.retire(soup)
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
        self._loaded[fingerprint] = soup
        return soup


class KeptTasks:
    """Run to their end, whether anybody waits for them or not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits hears of it
