"""The stage on a file of our own format, with figures from hand arithmetic, and on real raters."""

import json
from pathlib import Path

import pytest
from real_data import REASON, data_directory

from tureen_training.agreement import Config, main

TWO = ["Short.", "Quite a bit longer."]


def write(path: Path, records: list[dict]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def prefers(name: str, **choices: int) -> dict:
    """Each rater's preferred response of two; −1 is a tie."""
    pairs = [
        {"chosen": k, "rejected": 1 - k, "rater": rater} for rater, k in choices.items() if k >= 0
    ]
    ties = [{"first": 0, "second": 1, "rater": rater} for rater, k in choices.items() if k < 0]
    return {"id": name, "prompt": "Why?", "responses": TWO, "pairs": pairs, "ties": ties}


def test_comparisons_by_hand(tmp_path, capsys):
    records = [
        prefers("q1", ann=1, bob=1),
        prefers("q2", ann=0, bob=1),
        prefers("q3", ann=0, bob=0),
        prefers("q4", ann=-1, bob=1),
        prefers("q5", ann=1),
    ]
    report = main(Config(data=write(tmp_path / "mine.jsonl", records), shared_items=4))[
        "comparisons"
    ]
    assert report.labels == ("second", "tie", "first")
    assert (report.votes, report.items, report.shared_items, report.raters) == (9, 5, 4, 2)
    assert report.figures["agreement"].value == pytest.approx(2 / 4)
    # n = 8 votes: second 4, tie 1, first 3; D_o = 4/8; D_e = 2(4·1 + 4·3 + 1·3)/(8·7) = 38/56
    assert report.figures["alpha_nominal"].value == pytest.approx(1 - (1 / 2) / (38 / 56))
    # without the tie three items remain: alike on two of three; p = (1 + √(1/3))/2
    assert report.figures["side_agreement"].value == pytest.approx(2 / 3)
    assert report.figures["human_ceiling"].value == pytest.approx(0.7887, abs=5e-5)
    # 8 preferences: first listed q2 ann, q3 both = 3; longer is the second: 5
    assert report.figures["first"].value == pytest.approx(3 / 8)
    assert report.figures["longer"].value == pytest.approx(5 / 8)
    # Cohen: p_o = 2/4; ann 1 second, 2 first, 1 tie; bob 3 second, 1 first: p_e = (1·3 + 2·1)/16
    (pair,) = report.cohen
    assert pair.raters == ("ann", "bob")
    assert pair.items == 4
    assert pair.kappa == pytest.approx((1 / 2 - 5 / 16) / (11 / 16))
    assert report.undecided_by_majority == pytest.approx(2 / 4)
    assert {one.rater: one.votes for one in report.reliability} == {"ann": 4, "bob": 4}
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["comparisons"]["figures"]["longer"]["value"] == 0.625


def test_grades_are_an_ordered_scale(tmp_path):
    records = [prefers(f"q{n}", ann=1, bob=1) for n in range(3)]
    for record, (one, other) in zip(records, [(1, 1), (0.5, 1), (0.5, 0.5)], strict=True):
        record["pairs"][0]["margin"], record["pairs"][1]["margin"] = one, other
    report = main(Config(data=write(tmp_path / "mine.jsonl", records)))["comparisons"]
    assert report.labels == ("second by 1", "second by 0.5", "tie", "first by 0.5", "first by 1")
    assert report.figures["agreement"].value == pytest.approx(2 / 3)
    assert report.figures["side_agreement"].value == 1


def test_ratings_are_measured_apart(tmp_path):
    records = [
        {
            "id": f"q{n}",
            "prompt": "Why?",
            "responses": ["One."],
            "ratings": [
                {"response": 0, "value": value, "rater": rater}
                for rater, value in zip("ab", values, strict=True)
            ],
        }
        for n, values in enumerate([(1, 1), (3, 5), (5, 5)])
    ]
    reports = main(Config(data=write(tmp_path / "mine.jsonl", records)))
    assert set(reports) == {"ratings"}
    # votes 1 1 3 5 5 5; D_o = 2·4/6; D_e = 2(2·4 + 2·3·16 + 3·4)/(6·5) = 232/30
    interval = reports["ratings"].figures["alpha_interval"].value
    assert interval == pytest.approx(1 - (8 / 6) / (232 / 30))


def test_one_rater_agrees_with_nobody(tmp_path):
    records = [prefers("q1", ann=1), prefers("q2", ann=0)]
    report = main(Config(data=write(tmp_path / "mine.jsonl", records)))["comparisons"]
    assert set(report.figures) == {"first", "longer"}
    assert report.reliability == ()


def test_a_file_without_raters_says_so(tmp_path):
    record = {**prefers("q1"), "pairs": [{"chosen": 0, "rejected": 1}]}
    with pytest.raises(ValueError, match="by a named rater"):
        main(Config(data=write(tmp_path / "mine.jsonl", [record])))
    with pytest.raises(FileNotFoundError, match="is no file"):
        main(Config(data=str(tmp_path)))


@pytest.mark.skipif(data_directory() is None, reason=REASON)
def test_the_three_people_of_pandalm():
    """Three people who agree well; blank responses are left out."""
    directory = data_directory()
    assert directory is not None
    path = directory / "ranked_responses/pandalm_human.jsonl.gz"
    report = main(Config(data=str(path)))["comparisons"]
    assert (report.votes, report.raters) == (2835, 3)
    assert all(0.83 < (pair.kappa or 0) < 0.9 for pair in report.cohen)
    assert report.figures["alpha_ordinal"].low > 0.8
