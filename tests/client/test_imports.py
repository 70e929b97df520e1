from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "transformers", "fastapi", "pydantic", "grpc", "google.protobuf", "numpy"}
LATER = {"httpx2"}  # on construction


def test_importing_the_client_costs_nothing():
    code = f"import sys, tureen, tureen.client; print({HEAVY | LATER} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
