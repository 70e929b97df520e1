"""The torch backend on a GPU: half precision without padding against float32 on the CPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pico
import pytest
import torch

from tureen.engine.backend import BatchTooLarge
from tureen.engine.loading import load_model
from tureen.engine.selfcheck import run_self_check, windows_of
from tureen.text.batch import collate

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

BUILDS = [pico.bert_reward, pico.llama_reward, pico.llama_classifier]


@pytest.fixture(params=BUILDS, ids=lambda build: build.__name__)
def models(request, tmp_path):
    """In float32 on the CPU and in bfloat16 on the GPU."""
    directory = request.param(tmp_path / "model")
    exact = load_model(directory, backend="torch", device="cpu")
    return exact, load_model(directory, backend="torch", device="cuda", dtype="bfloat16")


def test_rows_run_without_padding_and_the_check_passes(models):
    exact, on_gpu = models
    assert on_gpu.backend.info.packs
    assert run_self_check(on_gpu) is None
    batch = collate(windows_of(exact), exact.pad_id)
    expected = exact.backend.forward(batch)
    found = on_gpu.backend.forward(batch)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_float32_has_no_such_kernel_and_runs_padded(tmp_path):
    model = load_model(pico.bert_reward(tmp_path / "m"), backend="torch", device="cuda")
    assert not model.backend.info.packs
    assert run_self_check(model) is None


def test_batches_in_flight_do_not_meet(models):
    """Uploads, passes and downloads of two threads overlap; each gets the values of its own batch."""
    _, on_gpu = models
    windows = windows_of(on_gpu)
    batches = [collate([window] * (1 + place), 0) for place, window in enumerate(windows)]
    alone = [on_gpu.backend.forward(batch) for batch in batches]
    with ThreadPoolExecutor(on_gpu.backend.info.streams) as pool:
        together = list(pool.map(on_gpu.backend.forward, batches * 50))
    for values, expected in zip(together, alone * 50, strict=True):
        np.testing.assert_allclose(values, expected, atol=0.05 * np.abs(expected).max())


def test_a_batch_that_does_not_fit_asks_for_less_and_the_next_one_runs(models):
    _, on_gpu = models
    windows = windows_of(on_gpu)
    batch = collate(windows, 0)
    expected = on_gpu.backend.forward(batch)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(BatchTooLarge):
            on_gpu.backend.forward(collate(windows * 500, 0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(on_gpu.backend.forward(batch), expected, atol=1e-2)
