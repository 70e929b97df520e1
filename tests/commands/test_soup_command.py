"""`tureen soup make` and `diff` as they are typed."""

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


@pytest.mark.parametrize(
    ("coefficients", "problem"),
    [
        (["0.5"], "2 models and 1 of --coefficient; give one for each"),
        (["0.5", "0.75"], "add up to 1.25; they must add up to 1"),
    ],
)
def test_coefficients_are_counted_and_added_up_before_anything_is_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, coefficients: list[str], problem: str
):
    options = [part for one in coefficients for part in ("--coefficient", one)]
    arguments = ["soup", "make", "nowhere-a", "nowhere-b", "--out", str(tmp_path / "s")]
    assert cli.main([*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1


def test_a_checkpoint_given_twice_is_told_of(
    capsys: pytest.CaptureFixture[str], members: list[str], tmp_path: Path
):
    def warnings_of(*models: str) -> str:
        assert cli.main(["soup", "make", *models, "--out", str(tmp_path / "s")]) == 0
        return capsys.readouterr().err

    assert warnings_of(*members) == ""
    warned = warnings_of(*members, members[0])
    assert "warning: member-0-2 is the same checkpoint as member-0 (sha256 " in warned
    assert len(warned.splitlines()) == 1


def test_diff_of_two_architectures_says_which_has_no_such_tensor(
    capsys: pytest.CaptureFixture[str], members: list[str], tmp_path: Path
):
    other = str(pico.llama_reward(tmp_path / "llama"))
    assert cli.main(["soup", "diff", members[0], other]) == 2
    error = capsys.readouterr().err
    assert f"{other} has none; only models of one architecture" in error
