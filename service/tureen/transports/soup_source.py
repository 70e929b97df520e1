"""Soups of the model that a server was told to serve."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from functools import partial

from tureen.config import Config
from tureen.engine.loading import load_model
from tureen.engine.served import ServedModel
from tureen.engine.soups import SoupSource
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
