"""The models that a server was told to serve, their soups, and the engine over them."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tureen.config import Config
from tureen.engine.background import in_background
from tureen.engine.loaded_soups import SoupSource
from tureen.engine.loading import load_model
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import SoupRecords, SoupStore
from tureen.engine.soups import Soups
from tureen.engine.stub_backend import STUB
from tureen.errors import TureenError
from tureen.model.directory import current_export, find_model, open_model
from tureen.model.manifest import ModelError


@dataclass(frozen=True, slots=True)
class Ordered:
    """A model that is to be served.

    name: as it was given. records: what is remembered of its soups; None is the model as it is.
    """

    name: str
    source: SoupSource
    records: SoupRecords | None = None
    store: SoupStore | None = None

    @property
    def model_id(self) -> str:
        return self.source.origin.manifest.model_id if self.source.origin is not None else STUB


def ordered(config: Config) -> list[Ordered]:
    """All of them, looked up before anything large is loaded. Blocks.

    Raises:
        ModelError: one is not there, or two are the same.
    """
    found: list[Ordered] = []
    for name in config.model:
        source = source_of(config, name)
        one = Ordered(name, source)
        if source.origin is not None:
            store = SoupStore(config.state_dir, source.origin.fingerprint)
            one = Ordered(name, source, store.read(), store)
        _check_distinct(one, found)
        found.append(one)
    return found


def source_of(config: Config, name: str) -> SoupSource:
    """Blocks; raises as `load_model` does where there is no such model."""
    load = partial(_load, config, name)
    if name == STUB:
        return SoupSource(None, load)
    origin = open_model(find_model(name))
    if config.dtype == "int8":  # are other weights, with a fingerprint of their own
        made = current_export(origin, config.dtype)
        if made is not None:
            origin = dataclasses.replace(origin, fingerprint=made.fingerprint)
    return SoupSource(origin, load, _obstacle(config))


async def started(
    config: Config, models: Sequence[Ordered], metrics: Metrics
) -> tuple[Scorer, dict[str, Soups]]:
    """The engine at work, each model by the soup that is active, and the soups by model id.

    A model that fails its start-up check is not `ready`; raises whatever loading raises, which names
    the model where there are several.
    """
    loaded: list[ServedModel] = []
    for one in models:
        with _naming(one.name, among=len(models)):
            if one.records is not None:
                loaded.append(await in_background(one.source.restored, one.records))
            else:
                loaded.append(await in_background(one.source.load, None))
    scorer = Scorer(loaded, limits=config.limits(), metrics=metrics)
    await scorer.start()
    soups = {
        one.model_id: Soups(
            scorer,
            one.source,
            scorer.serving(one.model_id),
            records=one.records,
            store=one.store,
            max_loaded=config.max_loaded_soups,
        )
        for one in models
    }
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look at it again
    return scorer, soups


def _check_distinct(one: Ordered, others: Sequence[Ordered]) -> None:
    for other in others:
        if one.model_id == other.model_id:
            raise ModelError(
                f"{other.name} and {one.name} are both called {one.model_id!r}, and a request could not "
                "say which it means; leave one out, or give it another model_id in its tureen.json."
            )
        mine, theirs = one.source.origin, other.source.origin
        if mine is not None and theirs is not None and mine.fingerprint == theirs.fingerprint:
            raise ModelError(
                f"{other.name} and {one.name} are the same model ({mine.fingerprint}); leave one out."
            )


@contextmanager
def _naming(name: str, among: int) -> Iterator[None]:
    """Errors of a model that is loaded say which it is, where it is not the only one."""
    try:
        yield
    except (ModelError, TureenError) as error:
        if among == 1 or name in str(error):
            raise
        raise type(error)(f"model {name}: {error}") from error
    except Exception as error:
        error.add_note(f"while loading the model {name}")
        raise


def _load(config: Config, name: str, coefficients: Mapping[str, float] | None) -> ServedModel:
    return load_model(
        name,
        backend=config.backend,
        device=config.device,
        dtype=config.dtype,
        redistribute=config.redistribute,
        coefficients=coefficients,
    )


def _obstacle(config: Config) -> str | None:
    if config.backend == "onnx" or config.dtype == "int8":
        runs = "--dtype int8" if config.dtype == "int8" else "--backend onnx"
        return (
            f"The server runs {runs}, and an export holds one weighting; live soups are formed "
            "by torch: start the server with --backend auto or torch."
        )
    if importlib.util.find_spec("torch") is None:
        return (
            "Live soups are formed by torch, which the server lacks: pip install 'tureen[torch]'."
        )
    return None
