"""The commands as they are typed: what they print for people and for programs, and how they fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pico
import pytest
from rich.console import Console

from tureen import cli
from tureen.commands.table import print_scores
from tureen.contracts import Sample, SampleResult, Score, ScoreResponse, Uncertainty
from tureen.engine.loading import load_model
from tureen.engine.onnx_backend import OnnxBackend
from tureen.engine.stub_backend import StubBackend

PROMPT = ["--prompt", "What is 2+2?", "--response", "4. Surely.", "--response", "5"]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return pico.bert_members(tmp_path_factory.mktemp("members"), n=2)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_help_lists_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        status, out, _ = run(capsys, *arguments)
        assert status == 0
        assert all(f"  {name}" in out for name in cli.COMMANDS)
    assert run(capsys, "--version")[1].startswith("tureen 0.")


@pytest.mark.parametrize("command", [*cli.COMMANDS, "soup make", "soup inspect", "soup diff"])
def test_every_command_explains_itself(capsys, command: str):
    with pytest.raises(SystemExit) as left:  # argparse leaves; `soup --help` returns
        sys.exit(cli.main([*command.split(), "--help"]))
    assert left.value.code in (0, None)
    assert f"usage: tureen {command}" in capsys.readouterr().out


def test_help_needs_only_the_client(tmp_path: Path):
    """A process in which the server's packages cannot be imported, as after `pip install tureen`."""
    script = (
        "import sys\n"
        "for name in ('fastapi', 'numpy', 'pydantic', 'pydantic_settings', 'yaml', 'rich', 'grpc',"
        " 'torch', 'transformers', 'orjson', 'uvicorn', 'prometheus_client'):\n"
        "    sys.modules[name] = None\n"
        "from tureen.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(status)\n"
    )

    def without_extras(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    assert without_extras("--help").returncode == 0
    arguments = {"soup": ("inspect", "stub"), "keys": ("new",)}
    for command in cli.COMMANDS:
        done = without_extras(command, *arguments.get(command, ("stub",)))
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "pip install 'tureen[" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tureen.cli", *arguments], stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from tureen.cli import main; main(['--help']);"
        "heavy = {'fastapi', 'numpy', 'pydantic', 'grpc', 'torch', 'rich'} & set(sys.modules);"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serv"], "did you mean 'serve'"),
        (["score", "stub", *PROMPT, "--agregation", "mean"], "did you mean '--aggregation'"),
        (
            ["score", "stub", *PROMPT, "--aggregation", "median"],
            "(choose from 'mean', 'worst_case'",
        ),
        (["score", "stub", "--prompt", "a"], "--response"),
        (["score", "stub", *PROMPT, "--file", "x"], "leave --prompt"),
        (["score", "stub", "--file", "/nowhere"], "tureen: /nowhere: No such file or directory"),
        (["score", "stub", *PROMPT, "--weight", "factuality"], "HEAD=NUMBER"),
        (["score", "stub", *PROMPT, "--weight", "factuality=nan"], "finite"),
        (["score", "stub", *PROMPT, "--head", "factualty"], "did you mean 'factuality'"),
        (["score", "stub", "--prompt", "a", "--response", " "], "blank"),
        (
            ["score", "stub", *PROMPT, "--device", "gpu"],
            "--device is 'gpu'; known are auto, cpu, cuda, cuda:N, tensorrt and tensorrt:N",
        ),
        (["score", "nobody", *PROMPT], "no model 'nobody'"),
        (["doctor"], "MODEL"),
        (["soup", "mak"], "did you mean 'make'"),
        (["soup", "inspect", "/nowhere"], "/nowhere"),
        (
            ["soup", "list", "localhost:8080"],
            "write http://localhost:8080 or grpc://localhost:8080",
        ),
        (["export", "/nowhere/at/all"], "/nowhere"),
        (["score", "--model", "stub", *PROMPT], "has no option --model. The model"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, arguments: list[str], says: str):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("tureen: ")
    assert says in err


def test_score_prints_the_answer_of_the_server_as_json(capsys):
    status, out, _ = run(
        capsys, "score", "stub", *PROMPT, "--json", "--uncertainty", "--members", "--penalty", "0.3"
    )
    assert status == 0
    answer = json.loads(out)
    assert (answer["model"], answer["soup"]) == ("stub", "uniform:3")
    first, second = answer["results"][0]["scores"]
    assert first["reward"] != second["reward"]
    assert len(first["members"]) == first["uncertainty"]["members"] == 3


def test_score_takes_heads_and_weights(capsys):
    """2 · factuality alone, whose calibration in the stub is mean 0, std 1."""
    weigh = ["--head", "factuality", "--weight", "factuality=2"]
    _, out, _ = run(capsys, "score", "stub", *PROMPT, "--json", *weigh)
    for score in json.loads(out)["results"][0]["scores"]:
        assert list(score["heads"]) == ["factuality"]
        assert score["reward"] == pytest.approx(2 * score["heads"]["factuality"]["value"], abs=1e-6)


def test_score_shows_people_every_head_and_the_coloured_parts(capsys):
    status, out, _ = run(capsys, "score", "stub", *PROMPT, "--aggregation", "worst_case")
    assert status == 0
    for word in (
        "What is 2+2?",
        "factuality",
        "preference",
        "penalty",
        "over 3 members",
        "Surely.",
    ):
        assert word in out


def test_a_single_model_has_no_spread_to_show():
    score = Score(
        reward=1.0,
        heads={},
        segments=None,
        uncertainty=Uncertainty(std=0.0, low=1.0, high=1.0, members=1),
        tokens=1,
    )
    response = ScoreResponse(
        model="m", fingerprint="f", soup="single:1", results=(SampleResult(scores=(score,)),)
    )
    with (console := Console(width=100)).capture() as shown:
        print_scores(console, (Sample(prompt="p", responses=("r",)),), response)
    assert "one member, whose doubt is not known" in shown.get()
    assert "±" not in shown.get()


def test_score_reads_samples_from_a_file(capsys, tmp_path: Path):
    file = tmp_path / "samples.jsonl"
    lines = [{"id": "one", "prompt": "a", "responses": ["b"]}, {"prompt": "a", "responses": ["c"]}]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    status, out, _ = run(capsys, "score", "stub", "--file", str(file), "--json")
    assert status == 0
    assert [result["id"] for result in json.loads(out)["results"]] == ["one", None]
    file.write_text('{"prompt": "a", "responses": ["b"]}\n{"prompt": "a", "respones": ["b"]}\n')
    status, _, err = run(capsys, "score", "stub", "--file", str(file))
    assert status == 2
    assert f"{file}:2: " in err
    assert "did you mean 'responses'" in err


def test_score_says_which_sample_failed_and_leaves_with_1(capsys, tmp_path: Path):
    file = tmp_path / "samples.jsonl"
    file.write_text('{"prompt": "a", "responses": ["b"]}\n{"prompt": "a", "responses": [" "]}\n')
    status, out, _ = run(capsys, "score", "stub", "--file", str(file))
    assert status == 1
    assert "invalid_request" in out


def test_doctor_finds_a_healthy_model_healthy(capsys):
    status, out, _ = run(capsys, "doctor", "stub", "--json")
    report = json.loads(out)
    assert (status, report["ok"]) == (0, True)
    assert {check["status"] for check in report["checks"]} <= {"ok", "note"}
    assert "alone = in a crowd" in {check["name"] for check in report["checks"]}


def test_doctor_finds_a_model_that_listens_to_its_neighbours(capsys, monkeypatch):
    """A backend whose values move by 0.01 a row of the batch: what padding mistakes look like."""
    honest = StubBackend.forward

    def leaky(self, batch):
        return honest(self, batch) + 0.01 * len(batch.input_ids)

    monkeypatch.setattr(StubBackend, "forward", leaky)
    status, out, _ = run(capsys, "doctor", "stub")
    assert status == 1
    assert "FAIL" in out


def test_doctor_finds_a_model_that_is_never_twice_the_same(capsys, monkeypatch):
    """Steady for the 16 batches about padding and the five of the start-up check; then each adds 0.001."""
    honest, batches = StubBackend.forward, iter(range(10_000))

    def drifting(self, batch):
        return honest(self, batch) + 1e-3 * max(0, next(batches) - 20)

    monkeypatch.setattr(StubBackend, "forward", drifting)
    status, out, _ = run(capsys, "doctor", "stub", "--json")
    failed = [check["name"] for check in json.loads(out)["checks"] if check["status"] == "FAIL"]
    assert (status, "twice the same" in failed) == (1, True)


def test_soup_export_doctor_in_one_row(capsys, members: list[Path], tmp_path: Path, monkeypatch):
    """A soup is made, inspected, compared, exported, examined and scored with, by commands alone."""
    soup = tmp_path / "soup"
    status, out, _ = run(capsys, "soup", "make", *map(str, members), "--out", str(soup))
    assert status == 0
    assert "uniform:2" in out

    _, out, _ = run(capsys, "soup", "inspect", str(soup), "--json")
    inspected = json.loads(out)
    assert [one["coefficient"] for one in inspected["ingredients"]] == [0.5, 0.5]
    status, out, _ = run(capsys, "soup", "inspect", str(soup))
    assert status == 0
    assert "0.5000" in out

    _, out, _ = run(capsys, "soup", "diff", str(soup), str(soup))
    assert out.strip() == "no difference"
    _, out, _ = run(capsys, "soup", "diff", str(soup), str(members[0]), "--json")
    assert json.loads(out)["layers"]
    status, out, _ = run(capsys, "soup", "diff", str(soup), str(members[0]))
    assert "L2 distance" in out

    status, out, _ = run(capsys, "export", str(soup), "--json")
    assert status == 0
    assert json.loads(out)["max_abs_error"] <= 1e-4
    assert (
        load_model(soup, backend="onnx", device="cpu").fingerprint == json.loads(out)["fingerprint"]
    )

    status, out, _ = run(capsys, "doctor", str(soup), "--json")
    checks = {check["name"]: check["status"] for check in json.loads(out)["checks"]}
    assert (status, checks["torch = onnx"], checks["tokens of a pair"]) == (0, "ok", "ok")

    honest = OnnxBackend.forward
    with monkeypatch.context() as broken:
        broken.setattr(OnnxBackend, "forward", lambda self, batch: honest(self, batch) + 0.01)
        status, out, _ = run(capsys, "doctor", str(soup), "--json", "--backend", "torch")
    failed = [check["name"] for check in json.loads(out)["checks"] if check["status"] == "FAIL"]
    assert (status, failed) == (1, ["torch = onnx"])

    answers = [
        json.loads(run(capsys, "score", str(soup), *PROMPT, "--json", "--backend", backend)[1])
        for backend in ("torch", "onnx")
    ]
    rewards = [[one["reward"] for one in answer["results"][0]["scores"]] for answer in answers]
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-5)


def test_soup_make_weighs_by_coefficients(capsys, members: list[Path], tmp_path: Path):
    names = [*map(str, members), "--out", str(tmp_path / "soup")]
    weights = ["--coefficient", "0.25", "--coefficient", "0.75"]
    assert "weighted:2" in run(capsys, "soup", "make", *names, *weights)[1]


def test_doctor_samples_are_sound():
    from tureen.commands.checks import SAMPLES

    model = load_model("stub")
    for sample in SAMPLES:
        assert isinstance(sample, Sample)
        assert model.encoder.encode(sample, {head.granularity for head in model.heads})
