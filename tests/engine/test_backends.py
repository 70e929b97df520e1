"""The real backends over pico models, the check at start-up, and how models are found."""

import asyncio
import dataclasses
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch

from tureen.contracts import Sample, ScoreRequest
from tureen.engine import loading
from tureen.engine.backend import BatchTooLarge
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.engine.selfcheck import run_self_check, windows_of
from tureen.engine.served import ServedModel
from tureen.engine.stub_backend import stub_model
from tureen.engine.torch_backend import TorchBackend
from tureen.errors import MissingExtra
from tureen.model.export_onnx import export
from tureen.model.manifest import ModelError, ReferenceScore, read_manifest, write_manifest
from tureen.model.reward_model import RewardModel
from tureen.model.sequence_classifier import SequenceClassifier
from tureen.model.soup import make_soup
from tureen.text.batch import Batch, collate


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soup of three members, with an ONNX export."""
    folder = tmp_path_factory.mktemp("soup")
    make_soup(pico.bert_members(folder / "members", 3), None, folder / "pico", recipe="uniform")
    export(folder / "pico")
    return folder / "pico"


@pytest.fixture(scope="module")
def on_torch(directory: Path) -> ServedModel:
    return load_model(directory, backend="torch", device="cpu")


@pytest.fixture(scope="module")
def on_onnx(directory: Path) -> ServedModel:
    return load_model(directory, backend="onnx", device="cpu")


def batch_of(model: ServedModel) -> Batch:
    return collate(windows_of(model), model.pad_id)


def test_torch_and_onnx_agree_and_describe_themselves(on_torch, on_onnx):
    batch = batch_of(on_torch)
    of_torch, of_onnx = on_torch.backend.forward(batch), on_onnx.backend.forward(batch)
    rows, units, _ = batch.span_weights.shape
    assert of_torch.shape == of_onnx.shape == (rows, units, 4, 4)
    assert of_torch.dtype == of_onnx.dtype == np.float32
    np.testing.assert_allclose(of_onnx, of_torch, atol=1e-4)
    for model, name in ((on_torch, "torch"), (on_onnx, "onnx")):
        info = model.backend.info
        assert (info.name, info.dtype, info.device, info.members) == (name, "float32", "cpu", 3)
    assert on_torch.fingerprint == on_onnx.fingerprint


@pytest.mark.parametrize("name", ["on_torch", "on_onnx"])
def test_as_many_threads_as_a_backend_says_may_run_it_at_once(name, request):
    """Each gets the values of its own batch. Not to the bit: they share the processor's threads."""
    model = request.getfixturevalue(name)
    backend, windows = model.backend, windows_of(model)
    assert backend.info.streams == 2
    batches = [collate([window], model.pad_id) for window in windows]
    alone = [backend.forward(batch) for batch in batches]
    with ThreadPoolExecutor(backend.info.streams) as pool:
        together = list(pool.map(backend.forward, batches * 10))
    for values, expected in zip(together, alone * 10, strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_passes_of_two_models_that_overlap_divide_the_threads(tmp_path, monkeypatch):
    here = torch.get_num_threads()
    first, second = (
        TorchBackend(pico.bert_reward(tmp_path / name), device="cpu", dtype="float32")
        for name in ("first", "second")
    )
    for backend in (first, second):
        monkeypatch.setattr(backend, "_threads", 4)
    try:
        with first._share_of_threads():
            assert torch.get_num_threads() == 4
            with second._share_of_threads():
                assert torch.get_num_threads() == 2
        with second._share_of_threads():
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(here)


@pytest.mark.parametrize("place", [0, 1])
def test_auto_takes_the_faster_of_a_current_export_and_torch(directory, monkeypatch, place):
    def measured(backends, batch):
        assert [backend.info.name for backend in backends] == ["onnx", "torch"]
        assert batch.rows == 8
        return backends[place]

    monkeypatch.setattr(loading, "fastest", measured)
    model = load_model(directory, device="cpu")
    assert model.backend.info.name == ("onnx", "torch")[place]
    assert run_self_check(model) is None


def test_auto_takes_torch_for_another_dtype(directory):
    model = load_model(directory, device="cpu", dtype="bfloat16")
    assert (model.backend.info.name, model.backend.info.dtype) == ("torch", "bfloat16")
    assert run_self_check(model) is None


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_the_same_rewards_come_through_the_scorer(directory, on_torch, backend):
    sample = Sample(
        prompt="who painted it?",
        context=("the night watch is a painting by rembrandt.",),
        responses=("rembrandt painted it. the night watch.", "vermeer."),
    )

    async def rewards(model: ServedModel) -> list[float]:
        scorer = Scorer([model])
        await scorer.start()
        assert scorer.ready() == (True, "ready")
        response = await scorer.score(ScoreRequest(samples=(sample,)))
        await scorer.stop(1)
        return [score.reward for score in response.results[0].scores or ()]

    expected = asyncio.run(rewards(load_model(directory, backend="torch", device="cpu")))
    got = asyncio.run(rewards(load_model(directory, backend=backend, device="cpu")))
    assert got == pytest.approx(expected, abs=1e-4)
    assert len(got) == 2
    assert got[0] != pytest.approx(got[1], abs=1e-3)


@pytest.mark.parametrize("build", [pico.bert_classifier, pico.llama_classifier, pico.llama_reward])
def test_other_architectures_pass_the_check(tmp_path, build):
    model = load_model(build(tmp_path / "model"), backend="torch", device="cpu")
    assert model.backend.info.members == 1
    assert run_self_check(model) is None


def test_an_export_of_other_weights_is_refused_with_the_remedy(directory, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(directory, other)
    manifest = read_manifest(other)
    write_manifest(other, dataclasses.replace(manifest, temperature=2.0))
    with pytest.raises(ModelError, match=f"tureen export {other}"):
        load_model(other, backend="onnx")
    assert load_model(other, device="cpu").backend.info.name == "torch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "jax"}, "known are auto, torch, onnx"),
        ({"backend": "torch", "dtype": "int3"}, "float32, bfloat16, float16"),
        ({"backend": "onnx", "dtype": "float16"}, "onnx backend runs float32 and int8"),
        ({"backend": "onnx", "device": "tpu"}, "onnx backend knows auto, cpu, cuda, cuda:N"),
        ({"backend": "onnx", "device": "cuda:one"}, "'cuda:one'; the onnx backend knows"),
        ({"backend": "torch", "device": "tensorrt"}, "torch backend knows auto, cpu and cuda"),
    ],
)
def test_what_cannot_be_loaded(directory, options, message):
    with pytest.raises(ModelError, match=message):
        load_model(directory, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("backend", "device"),
    [("torch", "cuda"), ("onnx", "cuda"), ("onnx", "tensorrt"), ("auto", "tensorrt:1")],
)
def test_a_device_that_is_not_there(directory, backend, device):
    with pytest.raises(ModelError, match="use --device cpu"):
        load_model(directory, backend=backend, device=device)


CPU, CUDA, TENSORRT = (f"{kind}ExecutionProvider" for kind in ("CPU", "CUDA", "Tensorrt"))


@pytest.mark.parametrize(
    ("device", "first", "index", "rest"),
    [
        ("cuda", CUDA, 0, [CPU]),
        ("cuda:1", CUDA, 1, [CPU]),
        ("auto", CUDA, 0, [CPU]),
        ("tensorrt:2", TENSORRT, 2, [CUDA, CPU]),
    ],
)
@pytest.mark.parametrize("falls_back", [False, True])
def test_onnxruntime_is_asked_for_the_providers_of_the_device(
    directory, monkeypatch, device, first, index, rest, falls_back
):
    """By a stand-in for a session: what a GPU build of onnxruntime would be called with."""
    asked: list[Any] = []

    class Session:
        def __init__(self, _path, _options, *, providers, **_):
            asked.extend(providers)

        def get_providers(self):
            return [CPU] if falls_back else [first, *rest]

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    if falls_back:
        with pytest.raises(ModelError, match="fell back to the CPU"):
            load_model(directory, backend="onnx", device=device)
    else:
        info = load_model(directory, backend="onnx", device=device).backend.info
        assert info.device == ("cuda" if device == "auto" else device)
    names = [one if isinstance(one, str) else one[0] for one in asked]
    assert names == [first, *rest]
    assert asked[0][1]["device_id"] == index
    kept = asked[0][1].get("trt_engine_cache_path")
    assert kept == (str(directory / "onnx" / "tensorrt") if first == TENSORRT else None)


@pytest.mark.parametrize(
    ("package", "backend", "extra"), [("torch", "torch", "torch"), ("onnxruntime", "onnx", "onnx")]
)
def test_a_missing_package_names_its_extra(directory, monkeypatch, package, backend, extra):
    monkeypatch.setattr(loading, "_installed", lambda name: name != package)
    with pytest.raises(MissingExtra, match=rf"tureen\[{extra}\]"):
        load_model(directory, backend=backend)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_torch_without_memory_asks_for_less(on_torch, monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(on_torch.backend._model, "forward", fail)
    with pytest.raises(BatchTooLarge):
        on_torch.backend.forward(batch_of(on_torch))


@pytest.mark.parametrize("build", [pico.bert_reward, pico.llama_reward, pico.llama_classifier])
def test_torch_without_padding_gives_the_same_values(tmp_path, build):
    """As it is by default on CUDA; the second time decoders run behind prompts they have seen."""
    model = load_model(build(tmp_path / "model"), backend="torch", device="cpu")
    packed = TorchBackend(tmp_path / "model", device="cpu", dtype="float32", packing=True)
    assert (model.backend.info.packs, packed.info.packs) == (False, True)
    batch = batch_of(model)
    assert batch.tokens < batch.padded_tokens
    shapes: list[tuple[int, ...]] = []
    assert isinstance(packed._model, (RewardModel, SequenceClassifier))
    trunk = packed._model.trunk
    assert trunk is not None
    trunk.register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(tuple(given["input_ids"].shape)),
        with_kwargs=True,
    )
    expected = model.backend.forward(batch)
    np.testing.assert_allclose(packed.forward(batch), expected, atol=1e-5)
    assert shapes == [(1, batch.tokens)]
    np.testing.assert_allclose(packed.forward(batch), expected, atol=1e-5)
    assert run_self_check(dataclasses.replace(model, backend=packed)) is None


def test_other_errors_of_torch_stay_what_they_are(on_torch, monkeypatch):
    def fail(**_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(on_torch.backend._model, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        on_torch.backend.forward(batch_of(on_torch))


def test_onnx_without_memory_asks_for_less(on_onnx, monkeypatch):
    class Session:
        def run(self, *_):
            raise Exception("[ONNXRuntimeError] : 6 : Failed to allocate memory for buffer")

    monkeypatch.setattr(on_onnx.backend, "_session", Session())
    with pytest.raises(BatchTooLarge):
        on_onnx.backend.forward(batch_of(on_onnx))


def test_the_check_holds_the_stored_scores_against_now(on_torch):
    sample = Sample(prompt="is it?", responses=("yes.", "no."))

    async def score():
        scorer = Scorer([dataclasses.replace(on_torch)])
        await scorer.start()
        response = await scorer.score(ScoreRequest(samples=(sample,)))
        return tuple(score.reward for score in response.results[0].scores or ())

    def with_reference(rewards: tuple[float, ...]) -> ServedModel:
        reference = (ReferenceScore(sample=sample, rewards=rewards),)
        return dataclasses.replace(
            on_torch, manifest=dataclasses.replace(on_torch.manifest, reference=reference)
        )

    first, second = asyncio.run(score())
    assert run_self_check(with_reference((first, second))) is None
    trouble = run_self_check(with_reference((first, second + 0.01)))
    assert trouble is not None
    assert "reference 0" in trouble


def test_the_check_sees_a_model_whose_padding_is_not_masked(on_torch):
    class Leaky:
        info = on_torch.backend.info

        def forward(self, batch):
            return on_torch.backend.forward(
                dataclasses.replace(batch, attention_mask=np.ones_like(batch.attention_mask))
            )

        def close(self):
            pass

    trouble = run_self_check(dataclasses.replace(on_torch, backend=Leaky()))
    assert trouble is not None
    assert "neighbours" in trouble


def test_the_check_sees_values_that_break_only_in_a_crowd():
    model = stub_model()

    class BreaksInACrowd:
        info = model.backend.info
        close = model.backend.close

        def forward(self, batch):
            values = model.backend.forward(batch)
            return values if batch.rows == 1 else np.full_like(values, np.nan)

    trouble = run_self_check(dataclasses.replace(model, backend=BreaksInACrowd()))
    assert trouble == "values of a plain sample are not finite"


def test_the_stub_is_the_same_everywhere():
    """Whoever changes these values changes the fingerprint too."""
    model = stub_model()
    values = model.backend.forward(batch_of(model))
    assert model.fingerprint.startswith("sha256:8798201a")
    assert values[0, 0, 0].tolist() == pytest.approx([0.2162189, 0.2582769, 0.0434940, 0.8392040])
    assert np.abs(values).max() <= 3.5
    np.testing.assert_allclose(values[:, :, 0], values[:, :, 1:].mean(axis=2), atol=1e-6)
    assert run_self_check(model) is None


def test_the_pure_parts_need_neither_torch_nor_onnxruntime():
    code = (
        "import sys, tureen.engine.scorer, tureen.engine.loading;"
        "print([m for m in ('torch', 'onnxruntime', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
