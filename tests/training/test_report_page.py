"""The page of evaluated runs: overview, systems as columns, notes once, fingerprints that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tureen_training.evaluation.headlines import HEADLINES
from tureen_training.evaluation.suites import SUITES
from tureen_training.report_page import Run, cell, columns_of, html, rows

KIND = "a reward model"


def run(suite: str, name: str, figures: dict[str, float], **more: Any) -> Run:
    judged = {"what": KIND, "name": name, "fingerprint": f"sha256:{'0123456789abcdef' * 4}"}
    report = {
        "suite": suite,
        "judged": [judged],
        "figures": {
            key: {
                "value": v,
                "low": v - 1,
                "high": v + 1,
                "n": 3,
                "prompts": 2,
                "baselines": {"chance": 0.5},
            }
            for key, v in figures.items()
        },
        **more,
    }
    return Run(name=name, judged=name, directory=Path("none"), sha256="", report=report)


def test_the_overview_has_a_column_a_model_over_all_suites(tmp_path: Path):
    suites = {
        "hh_rlhf": [run("hh_rlhf", "soup", {"helpful_accuracy": 0.75, "harmless_ece": 0.125})],
        "robustness": [
            run("robustness", "soup", {"gaming": 0.25}),
            run("robustness", "length", {"gaming": 0.625}),
        ],
    }
    page = html(suites, {"tureen": "0"}, tmp_path)
    overview = page[page.index("<h2 id=overview>") : page.index("<h2 id='hh_rlhf'>")]
    assert overview.index("Helpful") < overview.index("Hard to fool")
    assert "0.750" in overview
    assert "0.250" in overview
    assert "0.625" in overview
    assert "harmless_ece" not in overview
    assert overview.count("</span>soup</th>") == overview.count("</span>length</th>") == 1
    # the whole fingerprint where the pointer rests, its beginning to be read
    assert f"title='sha256:{'0123456789abcdef' * 4}'>sha256:0123456789ab</code>" in page


def test_a_note_stands_once_with_the_runs_it_is_of(tmp_path: Path):
    both = ["only a few prompts"]
    runs = [run("ranked", "a", {}, notes=[*both, "late"]), run("ranked", "b", {}, notes=both)]
    page = html({"ranked": runs}, {}, tmp_path)
    assert page.count("only a few prompts") == 1
    assert "all runs: only a few prompts" in page
    assert "a: late" in page


def test_systems_of_flask_are_columns_and_kinds_are_headings():
    one = run(
        "flask",
        "judge",
        {
            "gpt4/skill/Factuality": 4.0,
            "gpt4/no_verdict": 0.0,
            "runs/demo/sft/skill/Factuality": 1.0,
            "heads/gpt4/skill/Factuality": 0.5,
            "unscorable": 0.0,
        },
    )
    columns = columns_of(one, alone=True)
    assert [column.name for column in columns] == [
        "gpt4",
        "runs/demo/sft",
        "gpt4 by heads",
        "judge",
    ]
    assert columns_of(one, alone=False)[0].name == "gpt4, judge"
    table = list(rows(columns))
    assert table[0] == "skill"
    factuality = table[1]
    assert not isinstance(factuality, str)
    assert factuality[0] == "<code>Factuality</code>"
    assert [cell[:31] for cell in factuality[2:5]] == [
        "<span class=value>4.000</span> ",
        "<span class=value>1.000</span> ",
        "<span class=value>0.500</span> ",
    ]
    assert factuality[5] == "–"


def test_one_prompt_has_no_interval():
    figure = run("ranked", "a", {"tau": 0.5}).figures["tau"]
    assert "[-0.500, 1.500] n 3" in cell(figure)
    assert "0.500</span> <span class=interval>one prompt, no interval, n 3" in cell(
        {**figure, "prompts": 1}
    )


def test_headlines_are_of_suites_that_there_are():
    """FLASK has no overall score, as published, and a figure for each system."""
    suites = {headline.suite for own in HEADLINES.values() for headline in own}
    assert suites == set(SUITES) - {"flask"}
