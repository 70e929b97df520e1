"""Runs the README: every shell and Python block, as written, against a real server on free ports."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tureen import RewardClient
from tureen.transports.openapi import EXAMPLE_SAMPLE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
# These start what the other blocks talk to, or this very test; the Makefile is checked instead.
MAKE = {"make serve\n": "tureen serve grounded-qa", "make test\n": "-m pytest"}


def test_there_is_something_to_run():
    assert len(BLOCKS) >= 8
    assert {code for _, code in BLOCKS} >= set(MAKE)


@pytest.mark.parametrize("command", list(MAKE))
def test_make_targets_run_what_the_readme_says(command):
    recipe = subprocess.run(
        ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert MAKE[command] in recipe.stdout


@pytest.mark.slow
def test_the_first_example_shows_what_it_promises(grounded_qa):
    borne_out, invented = EXAMPLE_SAMPLE["responses"]
    assert json.dumps(borne_out) in README
    assert json.dumps(invented) in README
    with RewardClient(grounded_qa.url) as client:
        best, other = client.score(**EXAMPLE_SAMPLE)
    assert best.reward > other.reward
    first, second = (one for one in other.segments or () if one.head == "factuality")
    assert invented[second.start : second.end] == "Vermeer restored it."
    assert first.reward > 0 > second.reward


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "code"),
    [
        pytest.param(language, code, id=f"{language}-{code.split(chr(10))[0][:40]}")
        for language, code in BLOCKS
        if code not in MAKE
    ],
)
def test_block_runs(grounded_qa, language, code, tmp_path):
    code = code.replace("localhost:8080", f"localhost:{grounded_qa.http_port}")
    code = code.replace("localhost:8081", f"localhost:{grounded_qa.grpc_port}")
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert '"error":{' not in done.stdout.replace(" ", "")
