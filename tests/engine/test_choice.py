"""Which backend `auto` takes: decided on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from tureen.engine.backend import BackendInfo
from tureen.engine.choice import fastest
from tureen.engine.selfcheck import windows_of
from tureen.engine.stub_backend import stub_model
from tureen.text.batch import Batch, collate

BATCH = collate(windows_of(stub_model())[:2])


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Timed:
    """Takes the seconds it is told, the last of them from then on."""

    name: str
    clock: Clock
    seconds: list[float]
    passes: int = 0
    closed: bool = field(default=False)

    @property
    def info(self) -> BackendInfo:
        return BackendInfo(self.name, "float32", "cpu", 1, ("head",), "sha256:0")

    def forward(self, batch: Batch) -> np.ndarray:
        self.clock.now_s += self.seconds[min(self.passes, len(self.seconds) - 1)]
        self.passes += 1
        return np.zeros((2, 1, 1, 1), np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("onnx", "torch", "expected"),
    [
        ([0.010], [0.012], "onnx"),
        ([0.012], [0.010], "torch"),
        ([0.010], [0.010], "onnx"),  # a tie is the first's
        ([0.0104], [0.010], "onnx"),  # 4 % is noise
        ([0.0106], [0.010], "torch"),  # 6 % is not
        ([0.500, 0.010], [0.012], "onnx"),  # the first pass pays for buffers
        ([0.010, 0.090, 0.010], [0.012], "onnx"),  # a busy moment
    ],
)
def test_the_faster_one_stays(onnx: list[float], torch: list[float], expected: str):
    clock = Clock()
    both = [Timed("onnx", clock, onnx), Timed("torch", clock, torch)]
    chosen = fastest(both, BATCH, clock)
    assert chosen.info.name == expected
    assert [one.closed for one in both] == [one is not chosen for one in both]


def test_a_slow_machine_measures_one_round():
    """Two passes of 1 s are more than the budget of 1.5 s: what the first round found decides."""
    clock = Clock()
    both = [Timed("onnx", clock, [1.0]), Timed("torch", clock, [0.9])]
    assert fastest(both, BATCH, clock).info.name == "torch"
    assert [one.passes for one in both] == [1, 1]


def test_what_was_measured_is_logged(caplog: pytest.LogCaptureFixture):
    """N tokens in 10 and 16 ms are 100 N and 62.5 N a second."""
    clock = Clock()
    with caplog.at_level("INFO"):
        fastest([Timed("onnx", clock, [0.010]), Timed("torch", clock, [0.016])], BATCH, clock)
    tokens = BATCH.padded_tokens
    assert f"onnx {100 * tokens}, torch {62.5 * tokens:.0f} tokens/s; onnx it is" in caplog.text
