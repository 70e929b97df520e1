"""A script run by two processes that train together on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LAUNCH = "-m torch.distributed.run --standalone --nproc_per_node 2".split()


def run(script: Path, source: str, argument: Path) -> None:
    """Write the script and run it; it sees this folder's modules and gets `argument`."""
    script.write_text(source)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
    }
    child = subprocess.run(
        [sys.executable, *LAUNCH, str(script), str(argument)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
