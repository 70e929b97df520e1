"""One page of several runs: every figure with its interval and its baseline, and what it does not mean."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import feedback_files
import pytest

from tureen_training import cli, evaluate, report
from tureen_training.evaluation.caveats import CAVEATS
from tureen_training.evaluation.suites import SUITES


def figure(value: float, **baselines: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "n": 7,
        "prompts": 5,
        "baseline": max(baselines.values()),
        "baselines": baselines,
    }


def written(directory: Path, suite: str, name: str, figures: dict[str, Any], **more: Any) -> Path:
    directory.mkdir(parents=True)
    record = {
        "suite": suite,
        "about": f"what {suite} is about",
        "definitions": "tau   by Kendall <1945>",
        "versions": {"tureen": "0.0"},
        "split": "test",
        "limit": 9,
        "seed": 3,
        "judged": [{"what": "a reward model", "name": name, "fingerprint": f"sha256:{name}"}],
        "notes": [f"a note on {name} <b>"],
        "figures": figures,
        **more,
    }
    (directory / "report.json").write_text(json.dumps(record))
    return directory


def cells(page: str) -> list[list[str]]:
    """The text of each row of each table."""
    return [
        [
            " ".join(html.unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)
        ]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", page)
    ]


def test_a_table_of_two_runs(tmp_path: Path):
    one = written(
        tmp_path / "runs/one", "ranked", "soup", {"tau": figure(0.25, chance=0.0, longer=0.2)}
    )
    written(
        tmp_path / "runs/two",
        "ranked",
        "length",
        {"tau": figure(0.2, chance=0.0, longer=0.3), "top1": figure(0.5, chance=0.25)},
    )
    config = report.Config(runs=(str(one), str(tmp_path / "runs")), out=str(tmp_path / "out"))
    record = report.main(config)
    page = (tmp_path / "out/report.html").read_text()
    table = cells(page)
    assert table[:3] == [
        ["figure", "", "soup", "length", "read nothing"],
        [
            "tau",
            "",
            "0.250 [0.150, 0.350] n 7",
            "0.200 [0.100, 0.300] n 7",
            "chance 0.000 · longer 0.200 … 0.300",
        ],
        ["top1", "", "–", "0.500 [0.400, 0.600] n 7", "chance 0.250"],
    ]
    circumstances = [
        "ranked: soup",
        "a reward model soup",
        "sha256:soup",
        "test",
        "9",
        "3",
        "tureen 0.0",
    ]
    assert circumstances in table
    assert html.escape(CAVEATS["ranked"]) in page
    assert "a note on soup &lt;b&gt;" in page
    assert "what ranked is about" in page
    assert "by Kendall &lt;1945&gt;" in page
    assert "torch" in page
    runs = record["suites"]["ranked"]["runs"]
    assert [run["name"] for run in runs] == ["soup", "length"]  # the first once, though given twice
    assert json.loads((tmp_path / "out/report.json").read_text()) == record
    # its own report is no run
    assert report.main(report.Config(runs=(str(tmp_path),), out=str(tmp_path / "out"))) == record


def test_runs_of_one_name_are_told_apart_and_material_is_shown(tmp_path: Path):
    listed = {
        "id": "p",
        "prompt": "Why?",
        "first": "<i>Because.</i>",
        "second": "So.",
        "votes": {"human": "first", "reward": "second"},
        "people": {"second": 0, "tie": 0, "first": 2},
        "margin": -1.0,
        "standard_deviations": 1.5,
    }
    written(
        tmp_path / "a",
        "oversight",
        "soup",
        {"alpha": figure(0.5, chance=0.0)},
        disagreements={"found": 1, "items": 8, "first": [listed]},
    )
    critique = {
        "id": "p",
        "prompt": "Why?",
        "segments": [
            {
                "text": "It was 1888. ",
                "judge": {"fault": "factuality", "reason": "1871"},
                "heads": {"factuality": {"calibrated": -1.0}},
            },
            {"text": "So be it.", "judge": {"fault": "ok", "reason": ""}, "heads": {}},
        ],
    }
    written(
        tmp_path / "b",
        "oversight",
        "soup",
        {"alpha": figure(0.4, chance=0.0)},
        critiques=[critique],
        radar={"one": {"Factuality": 3.0, "Commonsense": 2.0, "Readability": 5.0}},
    )
    report.main(
        report.Config(runs=(str(tmp_path / "a"), str(tmp_path / "b")), out=str(tmp_path / "out"))
    )
    page = (tmp_path / "out/report.html").read_text()
    assert cells(page)[0][2:4] == ["soup (test, a)", "soup (test, b)"]
    assert "&lt;i&gt;Because.&lt;/i&gt;" in page
    assert "1 of 8 pairs" in page
    assert 'title="factuality -0.50"' in page
    assert "“It was 1888.”: factuality 1871" in page
    assert (tmp_path / "out/oversight-radar.png").is_file()
    assert "data:image/png;base64" in page


def test_from_evaluate_to_the_page(tmp_path: Path, capsys):
    feedback_files.directory(tmp_path / "qa_feedback", questions=3)
    for model in ("length", "random"):
        evaluate.main(
            evaluate.Config(
                data=str(tmp_path), suite="robustness", model=model, out=str(tmp_path / model)
            )
        )
    runs = f"[{tmp_path / 'length'}, {tmp_path / 'random'}]"
    assert cli.main(["report", "--runs", runs, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith("report.html: robustness (2)\n")
    table = cells((tmp_path / "out/report.html").read_text())
    assert table[0] == ["", "", "length", "random", "read nothing"]
    overview = [row[0] for row in table[1:7]]
    assert overview == [
        "Hard to fool",
        "Fooled by edits that keep the meaning",
        "Fooled by edits that beg for reward",
        "Fooled by edits that break the meaning",
        "Order turned by edits of the prompt",
        "Fooled by another prompt",
    ]
    assert any(row[0] == "repetition_fooled" for row in table)
    (run,) = (tmp_path / "length").glob("report.json")
    kept = json.loads(run.read_text())
    assert kept["about"] == SUITES["robustness"].about
    assert "the edited response is worth as much as the original" in kept["definitions"]
    assert {"tureen", "python", "torch", "transformers", "numpy"} == set(kept["versions"])
    assert (
        "the edited response is worth as much as the original"
        in (tmp_path / "out/report.html").read_text()
    )


def test_what_is_no_report(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"holds no report\.json; give directories"):
        report.main(report.Config(runs=(str(tmp_path),), out=str(tmp_path / "out")))
    (tmp_path / "report.json").write_text('{"gold": 1}')
    with pytest.raises(ValueError, match="is no report of `evaluate`"):
        report.main(report.Config(runs=(str(tmp_path),), out=str(tmp_path / "out")))


def test_every_suite_says_what_it_does_not_mean():
    assert set(CAVEATS) == set(SUITES)
