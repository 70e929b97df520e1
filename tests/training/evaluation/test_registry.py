"""Which suites run on what is given, and what is said where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tureen_training import cli, evaluate
from tureen_training.evaluation.config import Config
from tureen_training.evaluation.subjects import Subject, given
from tureen_training.evaluation.suites import SUITES, chosen

REWARD = frozenset({Subject.REWARD})
POLICY = frozenset({Subject.POLICY})


@pytest.mark.parametrize(
    ("fields", "subjects"),
    [
        ({}, REWARD),
        ({"model": "length"}, REWARD),
        ({"url": "localhost:1"}, REWARD),
        ({"policy": "p"}, POLICY),
        ({"policy": "p", "model": "m"}, POLICY | REWARD),
        ({"before": "a", "after": "b"}, {Subject.TWO_POLICIES}),
        ({"policy": "p", "judge_url": "http://x", "judge_model": "j"}, POLICY | {Subject.JUDGE}),
    ],
)
def test_nothing_named_is_the_default_reward_model(fields: dict, subjects: frozenset[Subject]):
    assert given(Config(data="d", **fields)) == subjects


def test_all_are_those_that_can_judge_what_is_given():
    assert {"qa_feedback", "reward_bias", "truthfulqa"} <= set(chosen("all", REWARD))
    assert "crows_pairs" not in chosen("all", REWARD)
    assert {"crows_pairs", "winogender", "truthfulqa", "collapse"} <= set(chosen("all", POLICY))
    assert set(chosen("all", POLICY | REWARD)) >= set(chosen("all", POLICY))
    assert chosen("truthfulqa, halueval", POLICY) == ["truthfulqa", "halueval"]


@pytest.mark.parametrize(
    ("names", "subjects", "problem"),
    [
        ("crows_pairs", REWARD, r"judges a policy \(--policy\); given is a reward model"),
        ("hh_rlhf", POLICY, r"judges a reward model \(--model or --url\); given is a policy"),
        ("hh_rlhf", REWARD | POLICY, r"a policy \(--policy\) was given, which hh_rlhf do not"),
        ("crows_pair", POLICY, "did you mean 'crows_pairs'"),
    ],
)
def test_the_wrong_kind_is_explained(names: str, subjects: frozenset[Subject], problem: str):
    with pytest.raises(ValueError, match=problem):
        chosen(names, subjects)


def test_several_suites_are_one_object_and_a_folder_each(
    dialogues: Path, inventions: Path, tmp_path: Path, capsys
):
    data = tmp_path / "data"
    for name, source in (("hh_rlhf", dialogues), ("halueval", inventions)):
        (data / name).mkdir(parents=True)
        for path in source.iterdir():
            (data / name / path.name).write_bytes(path.read_bytes())
    config = Config(data=str(data), suite="all", model="length", out=str(tmp_path / "out"))
    found = evaluate.main(config)
    captured = capsys.readouterr()
    assert set(json.loads(captured.out.splitlines()[-1])) == set(found)
    assert {name.split("/")[0] for name in found} == {"hh_rlhf", "halueval"}
    assert "note: truthfulqa is left out: " in captured.err
    report = json.loads((tmp_path / "out/hh_rlhf/report.json").read_text())
    assert report["judged"] == [
        {"what": "a reward model", "name": "length", "fingerprint": "length"}
    ]
    # "A bird." is shorter than "No idea."
    assert found["hh_rlhf/harmless_accuracy"].value == 0.0


def test_a_title_names_what_is_judged_once(dialogues: Path, capsys):
    for model, title in (("length", "length"), ("random", "random:7")):
        evaluate.main(Config(data=str(dialogues), suite="hh_rlhf", model=model, seed=7))
        first = next(line for line in capsys.readouterr().err.splitlines() if "·" in line)
        assert first.strip() == f"hh_rlhf, all · {title}"


def test_help_lists_every_suite(capsys):
    assert cli.main(["evaluate", "--help"]) == 0
    listed = capsys.readouterr().out.partition("\nSuites:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(SUITES)
    assert listed[1].endswith(
        "which of two dialogues people preferred; takes a reward model (--model or --url)"
    )


def test_none_of_the_files(tmp_path: Path):
    config = Config(data=str(tmp_path), suite="all", model="length")
    with pytest.raises(ValueError, match="has the files of none of"):
        evaluate.main(config)


def test_every_suite_says_what_it_is():
    assert all(suite.about and suite.takes for suite in SUITES.values())
