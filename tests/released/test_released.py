"""What is served now against what was released last: nobody's client breaks by an update.

At a release: python tests/released/test_released.py writes openapi.json and the proto beside this
file, under the version's name; the older ones go. A change that has to break clients wants a version
that says so (semantic versioning), and its own line in the changelog.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from released.openapi_breaking import breaking_changes

from tureen._version import __version__
from tureen.config import Config
from tureen.engine.metrics import Metrics
from tureen.transports.admission import Admission
from tureen.transports.http import create_app

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROTO = Path("tureen/v1/reward.proto")


def released() -> Path:
    """The folder of the latest release."""
    [folder] = [path for path in HERE.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return folder


def served() -> dict[str, Any]:
    return create_app(Admission(Config(), Metrics())).openapi()


def buf_breaking(newer: Path, older: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    command = [str(buf), "breaking", str(newer), "--against", str(older)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_latest_release_is_the_one_that_is_kept():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert versions[:1] in ([], [released().name])


def test_nothing_of_http_breaks_a_client_of_the_latest_release():
    older = json.loads((released() / "openapi.json").read_text(encoding="utf-8"))
    assert len(older["paths"]) >= 25
    assert breaking_changes(older, served()) == []


def test_nothing_of_grpc_breaks_a_client_of_the_latest_release():
    found = buf_breaking(ROOT / "proto", released())
    assert found.returncode == 0, found.stdout + found.stderr


CHANGES = {
    "a field is gone": ("  string soup = 3;\n", "", 'field "3"'),
    "a field has another number": ("double std = 2;", "double std = 3;", 'field "2"'),
    "a field has another type": ("double mean = 1;", "string mean = 1;", "changed type"),
    "a method is gone": ("  rpc ListModels(ListModelsRequest) returns (ModelList);\n", "", "RPC"),
    "a value is gone": ("  AGGREGATION_MEAN = 1;\n", "", "enum value"),
    "a name is another": ("rpc Rank(", "rpc Order(", "RPC"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_breaks_grpc_is_found(name: str, tmp_path: Path):
    before, after, said = CHANGES[name]
    text = (ROOT / "proto" / PROTO).read_text(encoding="utf-8")
    assert text.count(before) >= 1
    changed = tmp_path / PROTO
    changed.parent.mkdir(parents=True)
    changed.write_text(text.replace(before, after, 1), encoding="utf-8")
    found = buf_breaking(tmp_path, ROOT / "proto")
    assert found.returncode == 100, found.stdout + found.stderr  # buf's own: it found something
    assert said in found.stdout


if __name__ == "__main__":
    for path in HERE.glob("[0-9]*"):
        shutil.rmtree(path)
    to = HERE / __version__
    (to / PROTO.parent).mkdir(parents=True)
    shutil.copy(ROOT / "proto" / PROTO, to / PROTO)
    text = json.dumps(served(), indent=1, sort_keys=True, ensure_ascii=False)
    (to / "openapi.json").write_text(text + "\n", encoding="utf-8")
