"""The suites hh_rlhf and halueval from the command on, and their decisions by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import feedback_files
import numpy as np
import pytest

from tureen.contracts import Granularity
from tureen.model.manifest import HeadSpec
from tureen_training import evaluate
from tureen_training.data.records import Split
from tureen_training.evaluation import halueval, hh_rlhf
from tureen_training.evaluation.readings import HeadReading, Reading
from tureen_training.evaluation.scorers import Model

MODEL = Model(
    model_id="m",
    fingerprint="sha256:1",
    heads=(HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=1.0),),
    temperature=1.0,
    lineages=(),
)


def says(value: float) -> Reading:
    return Reading(reward=value, heads={"factuality": HeadReading(value, (), ())})


def test_hh_counts_ties_half_and_has_no_order(dialogues: Path):
    parts = hh_rlhf.parts(dialogues, None, Counter())
    assert {name: len(examples) for name, examples in parts.items()} == {
        "harmless": 6,
        "helpful": 6,
    }
    # won, won, lost, tie, tie, tie: (2 + 3/2) / 6
    pairs = [(1, 0), (2, 1), (0, 1), (1, 1), (0, 0), (2, 2)]
    read = [
        (example, (says(chosen), says(rejected)))
        for example, (chosen, rejected) in zip(parts["harmless"], pairs, strict=True)
    ]
    figures = hh_rlhf.report({"harmless": read, "helpful": []}, MODEL)
    assert figures["harmless_accuracy"].value == pytest.approx(3.5 / 6)
    assert figures["harmless_tie_rate"].value == 0.5
    # "A bird." is shorter than "No idea."
    baselines = {"longer": 0.0, "shorter": 1.0, "chance": 0.5}
    assert figures["harmless_accuracy"].baselines == baselines
    assert not any(name.startswith("helpful") for name in figures)


def test_halueval_chooses_on_one_part_and_reports_on_the_others(inventions: Path):
    parts = halueval.parts(inventions, None, Counter())
    # what was made up has the value 1, what was not 2: a threshold between them makes no mistake
    read = {
        name: [
            (e, tuple(says(2.0 if clean else 1.0) for clean in e.verdicts["factuality"]))
            for e in examples
        ]
        for name, examples in parts.items()
    }
    chosen_on = sum(e.split == Split.VALIDATION for e in parts["general"])
    assert 2 <= chosen_on <= 20
    figures = halueval.report(read, MODEL)
    for name in ("general_auroc", "general_balanced_accuracy", "general_f1_yes", "qa_accuracy"):
        assert figures[name].value == 1.0, name
    assert figures["general_balanced_accuracy"].n == 60 - chosen_on
    assert figures["general_balanced_accuracy"].baseline == 0.5
    assert figures["general_auroc"].baselines["shorter"] == 1.0
    assert not any(
        "accuracy" in name and "balanced" not in name for name in figures if "gen" in name
    )
    with pytest.raises(ValueError, match="on which the threshold of the suite halueval is chosen"):
        halueval.parts(inventions, Split.VALIDATION, Counter())


def test_halueval_as_it_is_released(inventions: Path, tmp_path: Path):
    """A clone: data/general_data.json and data/qa_data.json hold one object a line and neither ids nor offsets."""
    (tmp_path / "data").mkdir()
    ours = {"general": "general_data", "qa_candidates": "qa_data"}
    for name, released in ours.items():
        records = [
            json.loads(line) for line in (inventions / f"{name}.jsonl").read_text().splitlines()
        ]
        for record in records:
            for key in ("record_id", "question_id", "span_offsets", "method"):
                record.pop(key, None)
        feedback_files.write(tmp_path / "data" / f"{released}.json", records)
    found = evaluate.main(evaluate.Config(suite="halueval", data=str(tmp_path), model="length"))
    assert found["qa_accuracy"].n == 8
    # "Anna Berg" is shorter than "Bob built it."
    assert found["qa_accuracy"].value == 0.0
    assert found["general_balanced_accuracy"].prompts < 60


def test_the_best_threshold_by_hand():
    # errors at 0 and 2, clean at 1, 3, 4: below 1 TPR − FPR = ½, below 3 it is 1 − ⅓
    rows = np.array([[0.0, 0], [1.0, 1], [2.0, 0], [3.0, 1], [4.0, 1]])
    threshold = halueval.best_threshold(rows)
    assert 2.0 < threshold <= 3.0


@pytest.mark.slow
def test_what_is_too_long_is_counted_and_never_scored(dialogues: Path, models: Path, capsys):
    config = evaluate.Config(suite="hh_rlhf", data=str(dialogues), model=str(models / "judge"))
    figures = evaluate.main(config)
    assert figures["harmless_accuracy"].n == 6
    assert figures["helpful_accuracy"].n == 5
    assert (figures["unscorable"].value, figures["unscorable"].n) == (pytest.approx(1 / 12), 12)
    assert "1 cannot be scored: input_too_long" in capsys.readouterr().err


@pytest.mark.slow
def test_halueval_from_the_command_on(inventions: Path, models: Path, tmp_path: Path):
    figures = evaluate.main(
        evaluate.Config(
            suite="halueval", data=str(inventions), model=str(models / "judge"), out=str(tmp_path)
        )
    )
    assert {"general_balanced_accuracy", "qa_accuracy", "qa_ece"} <= set(figures)
    assert "general_accuracy" not in figures
    assert (tmp_path / "reliability.png").is_file()
