"""`tureen soup make --method`: how weights are combined, as it is typed."""

import json
from pathlib import Path

import pico
import pytest

from tureen import cli
from tureen.model.manifest import Method, read_manifest


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(path) for path in pico.bert_members(tmp_path_factory.mktemp("members"), n=2)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], Method()),
        (["--method", "ties"], Method(name="ties", density=0.2)),
        (
            ["--method", "ties", "--density", "0.5", "--scale", "2"],
            Method(name="ties", scale=2.0, density=0.5),
        ),
        (
            ["--method", "task_arithmetic", "--scale", "0.4"],
            Method(name="task_arithmetic", scale=0.4),
        ),
    ],
)
def test_the_method_is_stored_and_shown(
    capsys: pytest.CaptureFixture[str],
    members: list[str],
    tmp_path: Path,
    options: list[str],
    expected: Method,
):
    out = tmp_path / "soup"
    assert cli.main(["soup", "make", *members, "--out", str(out), *options]) == 0
    recipe = "uniform" if expected.name == "linear" else f"{expected.name}-uniform"
    assert f"{recipe}:2" in capsys.readouterr().out
    assert read_manifest(out).method == expected

    assert cli.main(["soup", "inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"]["name"] == expected.name
    assert cli.main(["soup", "inspect", str(out)]) == 0
    assert ("method" in capsys.readouterr().out) == (expected.name != "linear")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--scale", "0.5"], "scale is 0.5 in a linear average"),
        (["--method", "task_arithmetic", "--density", "0.5"], "only ties has one"),
        (["--method", "ties", "--density", "1.5"], "density of the method is 1.5"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    capsys: pytest.CaptureFixture[str],
    members: list[str],
    tmp_path: Path,
    options: list[str],
    problem: str,
):
    assert cli.main(["soup", "make", *members, "--out", str(tmp_path / "s"), *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "s").exists()
