"""The soak for seconds instead of minutes: what comes out at saturation, and that memory is read."""

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).resolve().parents[1] / "bench/soak.py"


def test_ten_seconds_at_saturation():
    """A leak of a request's size at each of some thousand requests would be above 64 MB."""
    command = [sys.executable, str(SOAK), "--minutes", str(10 / 60), "--mb", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, report
    assert report["unexpected"] == {}
    assert report["answered"] > 100
    refused = report["outcomes"].get("503", 0) + report["outcomes"].get("UNAVAILABLE", 0)
    assert refused > 0, "it was not saturated"
