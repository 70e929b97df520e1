"""FLASK by hand: N/A is no number, skills make abilities, the judge misbehaves, heads stand in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import feedback_files
import pico_ppo
import pytest
from stand_in_judge import Choice, StandInJudge, Status

from tureen_training import evaluate
from tureen_training.data.flask import Instance, read_instances
from tureen_training.evaluation.flask import Rated, aggregate, by_difficulty
from tureen_training.evaluation.flask_rubrics import (
    ABILITIES,
    SKILLS,
    load_rubrics,
    read_scores,
    skill_of,
)
from tureen_training.judge.errors import Failure, JudgeError

BASELINES = {"middle of the scale": 3.0}
EASY, EXPERT = "simple lifestyle knowledge", "expert level knowledge"


def instance(idx: int, skills: tuple[str, ...], level: str | None = EASY, *domains: str):
    return Instance(
        idx=idx,
        instruction=f"Do {idx}.",
        answer="",
        skills=skills,
        domains=domains,
        difficulty=level,
    )


RATED = [
    Rated(
        instance(1, ("Factuality", "Readability"), EASY, "Math"),
        {"Factuality": 5, "Readability": 2},
    ),
    Rated(
        instance(2, ("Factuality", "Commonsense"), EXPERT, "Math", "History"),
        {"Factuality": None, "Commonsense": 3},
    ),
    Rated(instance(3, ("Factuality",), None), {"Factuality": 2}),
    Rated(instance(4, ("Factuality",), EXPERT), None),
]


def test_a_skill_that_does_not_apply_never_counts_as_a_number():
    """Factuality: 5 and 2, the N/A left out: 3.5, not (5 + 0 + 2) / 3."""
    found = aggregate(RATED, frozenset({2}), BASELINES)
    assert found["skill/Factuality"].value == 3.5
    assert found["skill/Factuality"].n == 2
    assert found["na_rate"].value == pytest.approx(1 / 5)
    assert found["no_verdict"].value == 0.25
    assert "skill/Harmlessness" not in found
    assert "hard/Factuality" not in found  # only N/A
    assert found["hard/Commonsense"].value == 3.0


def test_abilities_difficulties_and_domains_by_hand():
    found = aggregate(RATED, frozenset(), BASELINES)
    # Background Knowledge: mean of Factuality 3.5 and Commonsense 3
    assert found["ability/Background Knowledge"].value == pytest.approx(3.25)
    assert found["ability/User Alignment"].value == 2.0
    assert "ability/Logical Thinking" not in found
    assert found[f"difficulty/{EASY}"].value == 3.5  # 5, 2
    assert found[f"difficulty/{EXPERT}"].value == 3.0  # N/A, 3
    assert found["domain/Math"].value == pytest.approx((5 + 2 + 3) / 3)
    assert found["domain/History"].value == 3.0
    assert not any(name.startswith("overall") for name in found)


def test_the_cumulative_mean_of_the_reference_code():
    """`aggregate_difficulty_skill.py`: for each level sum / count, and the sums so far / the counts so far."""
    rows = by_difficulty(
        [
            Rated(instance(1, ("Factuality",), EASY), {"Factuality": 5}),
            Rated(instance(2, ("Factuality",), EXPERT), {"Factuality": 2}),
            Rated(instance(3, ("Factuality",), EXPERT), {"Factuality": 1}),
        ]
    )["Factuality"]
    assert [row["n"] for row in rows] == [1, 0, 0, 0, 2]
    assert [row["mean"] for row in rows] == [5.0, None, None, None, 1.5]
    assert [row["cumulative"] for row in rows] == [5.0, 5.0, 5.0, 5.0, pytest.approx(8 / 3)]


def test_twelve_skills_in_four_abilities_by_the_names_of_the_data():
    assert len(SKILLS) == len(set(SKILLS)) == 12
    assert len(ABILITIES) == 4
    assert skill_of("Logical Robustness") == "Robustness"
    assert skill_of("Commonsense Understanding") == "Commonsense"
    assert skill_of("charm") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Factuality: it is right.\nScore for Factuality: 4", 4),
        ("Score for Factuality: **N/A**", None),
        ("score for factuality: not applicable.", None),
        ("Score for Factuality: 4/5", 4),
    ],
)
def test_scores_that_are_stated(text: str, expected: int | None):
    assert read_scores(text, ["Factuality"]) == {"Factuality": expected}


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("It deserves a 4 out of 5.", Failure.UNREADABLE),
        ("Score for Factuality: 0", Failure.OUT_OF_SCALE),
        ("Score for Factuality: 4\nScore for Factuality: 5", Failure.CONTRADICTORY),
        ("I'm sorry, I cannot rate this.", Failure.REFUSAL),
        ("Score for Readability: 4", Failure.UNREADABLE),
        ("Score for Factuality: not 5", Failure.UNREADABLE),
    ],
)
def test_what_is_no_score(text: str, failure: Failure):
    with pytest.raises(JudgeError) as caught:
        read_scores(text, ["Factuality"])
    assert caught.value.failure == failure


def test_the_release_calls_the_same_fields_otherwise(tmp_path: Path):
    record = {
        "question_id": 7,
        "text": "Name a bird.",
        "task": "t",
        "answer": "A gull.",
        "domain_review": "Humanities",
        "domain_labeled": ["Humanities"],
        "metrics": ["Logical Robustness", "Readability"],
        "difficulty_review": "Major level knowledge",
        "difficulty_labeled": "major level knowledge",
    }
    path = feedback_files.write(tmp_path / "flask_evaluation.jsonl", [record])
    (found,) = read_instances(path)
    assert found == Instance(
        idx=7,
        instruction="Name a bird.",
        answer="A gull.",
        skills=("Logical Robustness", "Readability"),
        domains=("Humanities",),
        difficulty="major level knowledge",
    )


def test_rubrics_are_brought_by_the_user(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"skillset\.json of GitHub kaistAI/FLASK"):
        load_rubrics("")
    records = rubrics()
    path = tmp_path / "rubrics.json"
    path.write_text(json.dumps(records))
    assert set(load_rubrics(str(path)).criteria) == set(SKILLS)
    path.write_text(json.dumps(records[1:]))
    with pytest.raises(ValueError, match="no rubric for Robustness; all twelve"):
        load_rubrics(str(path))
    records[3]["Skill"] = "Charm"
    path.write_text(json.dumps(records))
    with pytest.raises(ValueError, match="'Skill' is 'Charm', which names none of Robustness"):
        load_rubrics(str(path))


def rubrics() -> list[dict]:
    return [
        {
            "Skill": skill,
            "Criteria": f"Is there {skill.lower()}?",
            "Scoring": {str(grade): f"grade {grade}" for grade in range(1, 6)},
        }
        for skill in SKILLS
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    instances = [
        {
            "idx": n,
            "instruction": f"Name bird {n}.",
            "answer": "A gull.",
            "task": "t",
            "skill": ["Factuality", "Comprehension", "Logical Robustness"],
            "domain": ["Humanities", "-1"],
            "difficulty": EASY if n % 2 else None,
        }
        for n in range(1, 4)
    ]
    feedback_files.write(tmp_path / "evaluation.jsonl", instances)
    feedback_files.write(tmp_path / "hard.jsonl", [instances[0] | {"idx": 1}])
    responses = [
        {
            "idx": n,
            "instruction": "x",
            "responses": {"one": "A gull.", "two": "A tern.", "three": ""},
        }
        for n in range(1, 4)
    ]
    feedback_files.write(tmp_path / "responses.jsonl", responses)
    (tmp_path / "rubrics.json").write_text(json.dumps(rubrics()))
    return tmp_path


def test_a_judge_that_misbehaves_from_the_command_on(data: Path, tmp_path: Path, capsys):
    config = evaluate.Config(
        data=str(data),
        suite="flask",
        systems=("one", "three"),
        rubrics=str(data / "rubrics.json"),
        judge_url="set below",
        judge_model="stand-in",
        judge_concurrency=1,
        judge_max_tokens=700,
        out=str(tmp_path / "out"),
    )
    good = "Score for Factuality: 5\nScore for Comprehension: N/A\nScore for Robustness: 3"
    half = "I would say 5.\nScore for Factuality: 5"
    script = (Status(503), good, half, Choice({"content": None, "refusal": "No."}))
    with StandInJudge(*script, answer=lambda _: good.replace("5", "1")) as stand_in:
        found = evaluate.main(replace(config, judge_url=stand_in.url))
        shown = stand_in.requests[1]["messages"]
        assert "Is there robustness?" in shown[0]["content"]
        assert "A gull." in shown[1]["content"]
        assert stand_in.requests[1]["max_tokens"] == 700
        assert found["one/skill/Factuality"].value == 5.0
        assert found["one/skill/Factuality"].n == 1
        assert found["one/skill/Robustness"].value == 3.0
        assert "one/skill/Comprehension" not in found
        assert found["one/no_verdict"].value == pytest.approx(2 / 3)
        assert found["one/na_rate"].value == pytest.approx(1 / 3)
        assert not any(name.startswith("three") for name in found)
        said = capsys.readouterr().err
        assert "1 questions without a verdict of the judge: refusal" in said
        assert "1 questions without a verdict of the judge: unreadable" in said
        again = evaluate.main(replace(config, judge_url=stand_in.url))
        assert len(stand_in.requests) == 4 + 2
    assert again["one/skill/Factuality"].value == pytest.approx((5 + 1 + 1) / 3)
    assert again["one/no_verdict"].value == 0.0
    assert again["one/hard/Factuality"].n == 1
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["by_difficulty"]["one"]["Factuality"][0]["n"] == 2
    assert "one/no_verdict" in report["figures"]


@pytest.mark.slow
def test_heads_stand_in_and_say_so(data: Path, models: Path, tmp_path: Path, capsys):
    found = evaluate.main(
        evaluate.Config(
            data=str(data), suite="flask", model=str(models / "judge"), out=str(tmp_path / "out")
        )
    )
    assert {"heads/one/skill/Factuality", "heads/two/skill/Comprehension"} <= set(found)
    assert not any("Robustness" in name for name in found)  # no head speaks of it
    assert found["heads/one/skill/Factuality"].baseline == 0.0
    assert "not comparable with scores of a judge" in capsys.readouterr().err
    assert not (tmp_path / "out/radar.png").exists()  # two skills make no radar


def test_no_heads_no_judge(data: Path):
    with pytest.raises(ValueError, match="length has none of the heads completeness, factuality"):
        evaluate.main(evaluate.Config(data=str(data), suite="flask", model="length"))


@pytest.mark.slow
def test_a_policy_writes_its_own_responses(data: Path, tmp_path: Path):
    pico_ppo.policy(tmp_path / "policy")
    config = evaluate.Config(
        data=str(data),
        suite="flask",
        policy=str(tmp_path / "policy"),
        max_new_tokens=6,
        rubrics=str(data / "rubrics.json"),
        judge_url="set below",
        judge_model="stand-in",
        out=str(tmp_path / "out"),
    )
    every = "\n".join(f"Score for {skill}: 2" for skill in SKILLS)
    with StandInJudge(answer=lambda _: every) as stand_in:
        found = evaluate.main(replace(config, judge_url=stand_in.url))
    assert found[f"{tmp_path / 'policy'}/skill/Factuality"].value == 2.0
    written = (tmp_path / "out/results.responses-policy.jsonl").read_text().splitlines()
    assert len(written) == 1 + 3  # the policy's fingerprint, then one response an instruction
