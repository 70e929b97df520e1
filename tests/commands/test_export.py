"""`tureen export --dtype int8` as it is typed, and what the doctor says of its result."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pico
import pytest

from tureen import cli
from tureen.model.soup import make_soup

SAMPLES = [
    {"prompt": prompt, "responses": ["rembrandt painted it.", "vermeer. it rains."]}
    for prompt in ("who painted it?", "is it?", "what is it?", "when?")
]


@pytest.fixture(scope="module")
def soup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    make_soup(pico.bert_members(folder / "members", 2), None, folder / "pico", "uniform")
    return folder / "pico"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_int8_says_what_it_costs_and_is_examined(capsys, soup: Path, data: Path):
    """Weights that are random round badly: the export is let through, and the doctor is strict."""
    bounds = ("--max-flip-rate", "0.5", "--max-reward-error", "5")
    arguments = ("export", str(soup), "--dtype", "int8", "--data", str(data))
    status, out, _ = run(capsys, *arguments, *bounds, "--json")
    report = json.loads(out)
    assert (status, report["matrices"], report["parity"]["responses"]) == (0, 12, 4)
    assert report["path"] == str(soup / "onnx-int8" / "model.onnx")
    assert 0 < report["parity"]["max_error"] < 5

    made = (soup / "onnx-int8" / "model.onnx").read_bytes()
    status, _, err = run(capsys, *arguments, "--max-flip-rate", "0.5", "--max-reward-error", "0")
    assert status == 2
    assert "at most 50.00% and 0 are allowed" in err
    assert (soup / "onnx-int8" / "model.onnx").read_bytes() == made

    _, out, _ = run(capsys, "doctor", str(soup), "--dtype", "int8", "--json")
    examined = json.loads(out)
    checks = {check["name"]: (check["status"], check["found"]) for check in examined["checks"]}
    assert report["fingerprint"] in examined["model"]
    assert "pairs change their order" in checks["dtype"][1]
    # 4 of the doctor's prompts, 9 responses: 36 pairs, less those that float32 holds equal
    flips = re.fullmatch(
        r"(\d+) of (\d+) pairs .*; 5% and 0.3 are allowed", checks["int8 flip rate"][1]
    )
    assert flips is not None, checks["int8 flip rate"]
    assert int(flips[1]) <= int(flips[2]) <= 36
    if int(flips[1]) > 0.05 * int(flips[2]):
        assert checks["int8 flip rate"][0] == "FAIL"
    assert checks["as transformers computes"][0] == "note"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{", "samples.jsonl:1: "),
        ('{"prompt": "a", "response": ["b"]}', "did you mean 'responses'"),
        ("\n", "holds no sample"),
    ],
)
def test_data_that_is_no_sample(capsys, soup: Path, data: Path, lines: str, message: str):
    data.write_text(lines)
    status, _, err = run(capsys, "export", str(soup), "--dtype", "int8", "--data", str(data))
    assert status == 2
    assert message in err


def test_a_bound_of_int8_means_nothing_in_float32(capsys, soup: Path):
    status, _, err = run(capsys, "export", str(soup), "--max-flip-rate", "0.1")
    assert status == 2
    assert "--max-flip-rate is for --dtype int8" in err
