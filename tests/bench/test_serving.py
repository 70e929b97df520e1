"""The whole benchmark with the stub and little of everything: what it prints is what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.ratios import TARGETS
from bench.serving import PARTS

TESTS = Path(__file__).resolve().parents[1]
LITTLE = "--model stub --quick --rounds 1 --samples 12 --stub-samples 30 --concurrency 4".split()


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.serving", *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_every_part_gives_its_ratios_and_the_last_line_is_json():
    done = bench(*LITTLE)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert set(report) == {"ratios", "card", "parts"}
    assert set(report["parts"]) == set(PARTS)
    ratios = report["ratios"]
    assert list(ratios) == list(TARGETS)
    unknown = {name for name, value in ratios.items() if value is None}
    assert unknown == {
        "int8_over_control",  # the stub has one backend, and no weights to share
        "served_over_infinity",
        "gpu_matmul_share",
        "gpu_shared_over_unshared",
        "gpu_served_over_ceiling",
    }
    assert all(value > 0 for value in ratios.values() if value is not None)
    assert report["parts"]["gpu"]["not measured"] == "no CUDA device"
    assert report["parts"]["throughput"]["parity_with_first"]["served stub"]["pair_flip_rate"] == 0
    assert "round 1 of 1" in done.stderr


def test_a_part_that_is_not_there_is_refused_with_those_that_are():
    done = bench("--model", "stub", "--only", "stub,moon")
    assert done.returncode == 2
    assert "--only names moon; parts are throughput, open" in done.stderr
