"""The command from a pico model and a tiny directory to one JSON object."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import feedback_files
import pico
import pytest

from tureen.model.manifest import read_manifest
from tureen_training import cli, evaluate
from tureen_training.data.records import Example, Split, split_of
from tureen_training.evaluate import Config, as_record
from tureen_training.evaluation.job import limited
from tureen_training.metrics import Figure

KEYS = {
    "preference_accuracy",
    "relevance_f1",
    "relevance_auroc",
    "factuality_f1",
    "factuality_auroc",
    "completeness_accuracy",
    "preference_ece",
}


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Path:
    """Ingredients with a lineage, and data; row of 512 characters."""
    root = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pico, "MAX_INPUT_TOKENS", 512)
        patch.setattr(pico, "PAIR", replace(pico.PAIR, max_input_tokens=512))
        pico.bert_members(root, 1)
    mixed = [feedback_files.feedback_record(n) for n in range(11)]
    # one question whose first answer is right, so that factuality has both classes
    mixed.append(
        feedback_files.feedback_record(
            11, feedback={"errors": [], "missing-info": [], "corrected-prediction": ""}
        )
    )
    (root / "data").mkdir()
    feedback_files.write(root / "data" / "dev_feedback.jsonl", mixed)
    manifest = root / "member-0" / "tureen.json"
    written = json.loads(manifest.read_text())
    written["ingredients"][0]["lineage"] = {
        "data": "qa_feedback, training part of split tureen-split-2"
    }
    manifest.write_text(json.dumps(written))
    return root


@pytest.fixture(scope="module")
def out(members: Path) -> Path:
    """Of a whole run."""
    directory = members / "out"
    evaluate.main(
        Config(data=str(members / "data"), model=str(members / "member-0"), out=str(directory))
    )
    return directory


def run(members: Path, *options: str) -> int:
    arguments = ["--data", str(members / "data"), "--model", str(members / "member-0")]
    return cli.main(["evaluate", *arguments, *options])


@pytest.mark.slow
def test_the_last_line_is_the_figures(members: Path, out: Path, capsys):
    assert run(members, "--out", str(out)) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out.splitlines()[-1])
    assert set(figures) >= KEYS
    for name, figure in figures.items():
        assert {"value", "low", "high", "n", "baseline"} <= set(figure), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
        assert figure["baseline"] in figure["baselines"].values(), name
    for baseline in ("first", "longer", "shorter"):
        assert baseline in figures["preference_accuracy"]["baselines"]
        assert baseline in captured.err
    assert "trained on qa_feedback" in captured.err
    trained = sum(split_of(f"q-{n:03d}") == Split.TRAIN for n in range(12))
    assert f"{trained} of 12 prompts were trained on" in captured.err


@pytest.mark.slow
def test_what_a_run_leaves_behind(members: Path, out: Path):
    report = json.loads((out / "report.json").read_text())
    assert report["prompts"] == {"questions": 12}
    assert report["split"] == "all"
    heads = read_manifest(members / "member-0").heads
    assert report["thresholds"] == {head.name: head.error_below for head in heads}
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert len((out / "results.jsonl").read_text().splitlines()) == 13


@pytest.mark.slow
def test_a_part_and_a_limit(members: Path, capsys):
    assert run(members, "--split", "test", "--limit", "1") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["unscorable"]["n"] == 1
    assert "only the first 1 prompts" in captured.err
    assert "were trained on" not in captured.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--suite", "qa_feedbak"], "did you mean 'qa_feedback'"),
        (["--split", "tset"], "did you mean 'test'"),
        (["--suite", "halueval,hh_rlfh"], "did you mean 'hh_rlhf'"),
        (["--policy", "p"], "a policy (--policy) was given, which qa_feedback do not judge"),
        (["--before", "p"], "before and after belong together"),
        (["--device", "cuda:99"], "device is 'cuda:99'; here are: auto, cpu"),
        (["--limit", "0"], "limit is 0; give at least 1"),
        (["--model", "grounded-qx"], "no model 'grounded-qx'"),
        (["--data", "/nowhere"], "data is '/nowhere', which does not exist; give the directory"),
    ],
)
def test_mistakes_are_one_line(members: Path, options: list[str], problem: str, capsys):
    assert run(members, *options) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.startswith("tureen-train evaluate: ")


def test_a_limit_takes_the_same_prompts_whatever_else_is_there():
    examples = [
        Example(prompt_id=f"p-{n}", origin="t", prompt="?", responses=("a",)) for n in range(50)
    ]

    def name(example: Example) -> str:
        return example.prompt_id

    few = {e.prompt_id for e in limited(examples, 5, name)}
    assert len(few) == 5
    assert {e.prompt_id for e in limited(examples[::-1], 5, name)} == few
    without = [e for e in examples if e.prompt_id not in few]
    more = [e for e in examples if e.prompt_id in few] + without[:20]
    assert {e.prompt_id for e in limited(more, 5, name)} == few
    assert limited(examples, None, name) == limited(examples, 50, name) == examples


def test_figures_to_six_places():
    figure = Figure(
        value=1 / 3, low=0.0, high=1.0, n=3, prompts=2, baseline=0.5, baselines={"chance": 2 / 3}
    )
    assert as_record({"f": figure})["f"] == {
        "value": 0.333333,
        "low": 0.0,
        "high": 1.0,
        "n": 3,
        "prompts": 2,
        "baseline": 0.5,
        "baselines": {"chance": 0.666667},
    }
