"""From what a user names to a model that can be served; imports a backend when it is chosen."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from tureen.contracts import Granularity, Redistribution
from tureen.engine.backend import Backend
from tureen.engine.choice import fastest
from tureen.engine.selfcheck import windows_of
from tureen.engine.served import ServedModel
from tureen.engine.stub_backend import STUB, stub_model
from tureen.errors import MissingExtra
from tureen.model.directory import (
    EXPORT_FOLDERS,
    Export,
    ModelDirectory,
    current_export,
    find_model,
    open_model,
    reweighted,
)
from tureen.model.manifest import Manifest, ModelError
from tureen.text.batch import Batch, collate
from tureen.text.encoding import TextEncoder

log = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "onnx"]
DtypeName = Literal["float32", "bfloat16", "float16", "int8"]
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
        backend: "auto" takes, in float32 on a CPU, the faster of torch and a current export that
            lies in the directory (`choice.fastest`); an export for int8, else torch.
        device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA where the backend finds it. "tensorrt" and
            "tensorrt:1" are for an export.
        dtype: torch runs "float32", "bfloat16" and "float16", onnx "float32" and "int8" (an export
            of its own, on a CPU alone).
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
    if doubt := doubtful_reward(opened.manifest):
        log.warning("%s: %s", opened.manifest.model_id, doubt)
    attention = redistribution is Redistribution.ATTENTION
    if attention and backend == "onnx":
        raise ModelError(
            "redistribute is 'attention' and backend 'onnx': an export gives values alone, no "
            "attention. Use --backend torch, or --redistribute ablation."
        )
    if attention:
        backend = "torch"
    text = opened.manifest.text
    if attention:  # is summed over all tokens of a unit
        text = dataclasses.replace(text, unit_pooling="mean")
    encoder = TextEncoder.from_directory(opened.tokenizer_directory, text)
    backends = _candidates(opened, backend, device, dtype, threads, attention)
    loaded = ServedModel(backends[0], encoder, opened.manifest, redistribution)
    if len(backends) > 1:
        loaded = dataclasses.replace(loaded, backend=fastest(backends, _typical(loaded)))
    return loaded


def doubtful_reward(manifest: Manifest) -> str | None:
    """Why the reward of a third party's classifier may mean nothing; None where no label competes."""
    if manifest.kind != "sequence_classifier" or len(manifest.heads) == 1:
        return None
    names = [head.name for head in manifest.heads]
    weights = json.dumps({names[-1]: 1, names[0]: -1})
    return (
        f"its {len(names)} labels ({', '.join(names[:8])}) are its heads, and the reward is the mean of "
        "their logits. That is right for scores that add up, and means nothing for classes that "
        f'exclude each other: then send weights that say what is good, for example "weights": {weights}.'
    )


def _candidates(
    opened: ModelDirectory,
    name: str,
    device: str,
    dtype: str,
    threads: int | None,
    attention: bool,
) -> list[Backend]:
    """One backend, or those among which "auto" is to choose; of equally fast ones the first."""
    if name == "torch" or (name == "auto" and dtype in ("bfloat16", "float16")):
        return [_torch(opened, device, dtype, threads, attention)]
    if dtype not in EXPORT_FOLDERS:
        raise ModelError(
            f"dtype is {dtype!r}; the onnx backend runs {' and '.join(EXPORT_FOLDERS)}. Use "
            "--backend torch."
        )
    if name == "onnx" or dtype == "int8" or device.startswith("tensorrt"):
        return [_onnx(opened, current_export(opened, dtype), device, dtype, threads)]
    export = None
    if _installed("onnxruntime") and not device.startswith("cuda"):
        export = current_export(opened)
    if export is None:
        return [_torch(opened, device, dtype, threads, attention)]
    if not _installed("torch"):
        return [_onnx(opened, export, device, dtype, threads)]
    on_torch = _torch(opened, device, dtype, threads, attention)
    if on_torch.info.device != "cpu":  # "auto" found a GPU
        return [on_torch]
    return [_onnx(opened, export, "cpu", dtype, threads), on_torch]


def _typical(model: ServedModel) -> Batch:
    """A batch whose time is measured: eight rows of the longest window of the start-up check."""
    return collate([windows_of(model)[-1]] * 8, model.pad_id)


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
    opened: ModelDirectory, export: Export | None, device: str, dtype: str, threads: int | None
) -> Backend:
    if not _installed("onnxruntime"):
        raise MissingExtra("the onnx backend", "onnx")
    if export is None:
        kind = "" if dtype == "float32" else f" --dtype {dtype}"
        raise ModelError(
            f"{opened.directory} has no {dtype} ONNX export of its present weights "
            f"({opened.fingerprint}); make one with: tureen export {opened.directory}{kind}"
        )
    from tureen.engine.onnx_backend import OnnxBackend

    return OnnxBackend(export, opened.manifest, device=device, dtype=dtype, threads=threads)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
