"""The model that a server was told to serve, its soups, and the engine over them."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
from collections.abc import Mapping
from functools import partial

from tureen.config import Config
from tureen.engine.background import in_background
from tureen.engine.loading import load_model
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import SoupRecords, SoupStore
from tureen.engine.soups import Soups, SoupSource
from tureen.engine.stub_backend import STUB
from tureen.model.directory import current_export, find_model, open_model


def source_of(config: Config) -> SoupSource:
    """Blocks; raises as `load_model` does where there is no such model."""
    load = partial(_load, config)
    if config.model == STUB:
        return SoupSource(None, load)
    origin = open_model(find_model(config.model))
    if config.dtype == "int8":  # are other weights, with a fingerprint of their own
        made = current_export(origin, config.dtype)
        if made is not None:
            origin = dataclasses.replace(origin, fingerprint=made.fingerprint)
    return SoupSource(origin, load, _obstacle(config))


async def started(
    config: Config,
    source: SoupSource,
    metrics: Metrics,
    records: SoupRecords | None,
    store: SoupStore | None = None,
) -> tuple[Scorer, Soups]:
    """The engine at work on the soup that is active in `records`, None being the model as it is.

    A model that fails its start-up check is not `ready`; raises whatever loading raises.
    """
    if records is not None:
        model = await in_background(source.restored, records)
    else:
        model = await in_background(source.load, None)
    scorer = Scorer([model], limits=config.limits(), metrics=metrics)
    await scorer.start()
    soups = Soups(scorer, source, records=records, store=store, max_loaded=config.max_loaded_soups)
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look at it again
    return scorer, soups


def _load(config: Config, coefficients: Mapping[str, float] | None) -> ServedModel:
    return load_model(
        config.model,
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
