"""From what a user names to a model that can be served; imports a backend when it is chosen."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from tureen.contracts import Granularity, Redistribution
from tureen.engine.backend import Backend
from tureen.engine.served import ServedModel
from tureen.engine.stub_backend import STUB, stub_model
from tureen.errors import MissingExtra
from tureen.model.directory import (
    ModelDirectory,
    current_export,
    find_model,
    open_model,
    reweighted,
)
from tureen.model.manifest import Manifest, ModelError
from tureen.text.encoding import TextEncoder

BackendName = Literal["auto", "torch", "onnx"]
DtypeName = Literal["float32", "bfloat16", "float16"]
RedistributionName = Literal["none", "ablation", "attention"]


def load_model(
    model: str | Path,
    *,
    backend: BackendName = "auto",
    device: str = "auto",
    dtype: DtypeName = "float32",
    threads: int | None = None,
    redistribute: RedistributionName = "none",
    coefficients: Mapping[str, float] | None = None,
) -> ServedModel:
    """Loads a model so that a `Scorer` can serve it. Blocks for seconds.

    Args:
        model: a model directory; the name of one in a directory of TUREEN_MODELS or in
            service/models of a checkout, such as "grounded-qa"; the Hugging Face id of a sequence
            classifier; or "stub".
        backend: "auto" takes onnx where a current export lies in the directory and no CUDA device
            or other dtype is asked for, else torch.
        device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA where the backend finds it.
        dtype: "float32", "bfloat16" or "float16"; onnx runs float32.
        threads: of the CPU for one forward pass; None leaves it to the backend.
        redistribute: how the values of heads that speak of the whole response are spread over its
            sentences (`model.redistribution`). "attention" is for a third party's classifier that
            torch runs; "ablation" is for any model, and runs it once more for each sentence.
        coefficients: of the ingredients, instead of the manifest's (`directory.reweighted`).
    Raises:
        IncompatibleSoup, InvalidRequest: coefficients that this model cannot have.
        ModelError: nothing such is there, or it cannot be used like this.
        MissingExtra: the backend's packages are not installed.
    """
    if backend not in get_args(BackendName):
        raise ModelError(f"backend is {backend!r}; known are {', '.join(get_args(BackendName))}.")
    redistribution = _redistribution(redistribute)
    if str(model) == STUB:
        stub = stub_model()
        _check_redistribution(redistribution, stub.manifest)
        return dataclasses.replace(stub, redistribution=redistribution)
    opened = open_model(find_model(model))
    if coefficients is not None:
        opened = reweighted(opened, coefficients)
    _check_redistribution(redistribution, opened.manifest)
    attention = redistribution is Redistribution.ATTENTION
    if attention and backend == "onnx":
        raise ModelError(
            "redistribute is 'attention' and backend 'onnx': an export gives values alone, no "
            "attention. Use --backend torch, or --redistribute ablation."
        )
    if attention:
        backend = "torch"
    export = current_export(opened) if backend != "torch" else None
    if backend == "auto":
        fits = export is not None and dtype == "float32" and not device.startswith("cuda")
        backend = "onnx" if fits and _installed("onnxruntime") else "torch"
    loaded = (
        _torch(opened, device, dtype, threads, attention)
        if backend == "torch"
        else _onnx(opened, export, device, dtype, threads)
    )
    text = opened.manifest.text
    if attention:  # is summed over all tokens of a unit
        text = dataclasses.replace(text, unit_pooling="mean")
    encoder = TextEncoder.from_directory(opened.tokenizer_directory, text)
    return ServedModel(loaded, encoder, opened.manifest, redistribution)


def _redistribution(name: str) -> Redistribution | None:
    if name not in get_args(RedistributionName):
        known = ", ".join(get_args(RedistributionName))
        raise ModelError(f"redistribute is {name!r}; known are {known}.")
    return None if name == "none" else Redistribution(name)


def _check_redistribution(redistribution: Redistribution | None, manifest: Manifest) -> None:
    if redistribution is None:
        return
    if all(head.granularity is not Granularity.RESPONSE for head in manifest.heads):
        raise ModelError(
            f"redistribute is {redistribution.value!r}, but every head of {manifest.model_id} speaks "
            "of parts of the response already; leave it out."
        )
    third_party = manifest.kind == "sequence_classifier"
    if redistribution is Redistribution.ATTENTION and not third_party:
        raise ModelError(
            f"redistribute is 'attention', but {manifest.model_id} is no third party's sequence "
            "classifier; use 'ablation'."
        )


def _torch(
    opened: ModelDirectory, device: str, dtype: str, threads: int | None, attention: bool
) -> Backend:
    if not _installed("torch"):
        raise MissingExtra("the torch backend", "torch")
    from tureen.engine.torch_backend import TorchBackend

    return TorchBackend(opened, device=device, dtype=dtype, threads=threads, attention=attention)


def _onnx(
    opened: ModelDirectory, export: Path | None, device: str, dtype: str, threads: int | None
) -> Backend:
    if not _installed("onnxruntime"):
        raise MissingExtra("the onnx backend", "onnx")
    if export is None:
        raise ModelError(
            f"{opened.directory} has no ONNX export of its present weights ({opened.fingerprint}); "
            f"make one with: tureen export {opened.directory}"
        )
    if dtype != "float32":
        raise ModelError(f"dtype is {dtype!r}; the onnx backend runs float32. Use --backend torch.")
    from tureen.engine.onnx_backend import OnnxBackend

    return OnnxBackend(export, opened.manifest, opened.fingerprint, device=device, threads=threads)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
