import dataclasses
import json

import feedback_files
import pytest

from tureen_training.data.jsonl import BadData
from tureen_training.data.qa_feedback import read_feedback, read_references
from tureen_training.data.records import Pair, Tie


def test_reads_gzip_and_plain_alike(tmp_path):
    records = [feedback_files.feedback_record(i) for i in range(3)]
    plain = feedback_files.write(tmp_path / "a.jsonl", records)
    packed = feedback_files.write(tmp_path / "a.jsonl.gz", records)
    items = list(read_feedback(plain))
    assert items == list(read_feedback(packed))
    assert [item.question_id for item in items] == ["q-000", "q-001", "q-002"]
    item = items[0]
    assert len(item.predictions) == 4
    error = item.errors[0]
    assert item.predictions[0][error.span.start : error.span.end] == "1888"
    assert item.missing[0].sentences == ((0, 1),)  # the file counts passages and sentences from 1
    assert item.preferences.pairs[0] == Pair(chosen=1, rejected=0)
    assert item.preferences.ties == (Tie(1, 3),)
    # the text of a passage carries its title once
    assert item.passages[0].text.startswith("Gull Point\nThe lighthouse")


def test_references(tmp_path):
    path = feedback_files.write(tmp_path / "r.jsonl", [feedback_files.reference_record(0)])
    (reference,) = read_references(path)
    assert reference.answer == feedback_files.CORRECTED
    assert reference.passages[0].startswith("Gull Point\n")


def test_streams(tmp_path):
    """The first record is there before the second line is read."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(feedback_files.feedback_record(0)) + "\n{broken\n")
    items = read_feedback(path)
    assert next(items).question_id == "q-000"
    with pytest.raises(BadData, match=r"a\.jsonl:2: not JSON"):
        next(items)


def errors(start=0, end=4, kind="Irrelevant"):
    return {
        "errors": [{"error type": kind, "start": start, "end": end}],
        "missing-info": [],
        "corrected-prediction": "x",
    }


def missing(passage_id, sentence_id):
    return {
        "errors": [],
        "missing-info": [
            {
                "error type": "Missing-Answer",
                "passage_id": passage_id,
                "sentence_id": [sentence_id],
            }
        ],
        "corrected-prediction": "x",
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"question": 3}, "'question' must be str, got int"),
        ({"question": " "}, "'question' is blank"),
        ({"prediction 3": None}, "'prediction 3' must be str, got NoneType"),
        ({"passages": [["only a title"]]}, r"passages\[0\] must be \[title, sentence"),
        ({"preference": [1, 2]}, "'preference' must be six labels"),
        ({"preference": [1, 2, 0, 0, 0, 3]}, "'preference' must be six labels"),
        ({"feedback": []}, "'feedback' must be dict, got list"),
        ({"feedback": errors(kind="Wrong")}, r"errors\[0\]: 'error type' is 'Wrong'; known"),
        ({"feedback": errors(end=10_000)}, r"errors\[0\]: span \[0, 10000\) does not lie"),
        ({"feedback": errors(start=4)}, r"errors\[0\]: span \[4, 4\) does not lie"),
        ({"feedback": errors(start=True)}, r"errors\[0\]: 'start' must be int, got bool"),
        ({"feedback": missing(2, 1)}, r"missing-info\[0\]: passage_id 2, but there are 1"),
        ({"feedback": missing(1, 9)}, r"missing-info\[0\]: sentence_id 9, but passage 1 has 4"),
        ({"question_id": "q-000"}, "question_id 'q-000' was already on line 1"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path, changes, problem):
    records = [feedback_files.feedback_record(0), feedback_files.feedback_record(1, **changes)]
    path = feedback_files.write(tmp_path / "bad.jsonl.gz", records)
    with pytest.raises(BadData, match=rf"bad\.jsonl\.gz:2: .*{problem}"):
        list(read_feedback(path))


def test_a_missing_field(tmp_path):
    record = feedback_files.feedback_record(0)
    del record["gold"]
    path = feedback_files.write(tmp_path / "bad.jsonl", [record])
    with pytest.raises(BadData, match=r"bad\.jsonl:1: field 'gold' is missing"):
        list(read_feedback(path))


@pytest.mark.parametrize("answer", [[], [""], ["  "], [4]])
def test_a_reference_without_an_answer(tmp_path, answer):
    record = feedback_files.reference_record(0, answer=answer)
    path = feedback_files.write(tmp_path / "bad.jsonl", [record])
    with pytest.raises(BadData, match=r"bad\.jsonl:1: 'answer' must be a list"):
        list(read_references(path))


def released(tmp_path, name, records):
    """The files of the release: one array, its questions without an id."""
    for record in records:
        del record["question_id"]
    path = tmp_path / name
    path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return path


def test_the_release_is_read_as_it_is(tmp_path):
    records = [feedback_files.feedback_record(i) for i in range(3)]
    ours = list(read_feedback(feedback_files.write(tmp_path / "a.jsonl", records)))
    theirs = list(read_feedback(released(tmp_path, "train_feedback.json", records)))
    assert [item.question_id for item in theirs] == [
        "qaf-train-0000",
        "qaf-train-0001",
        "qaf-train-0002",
    ]
    assert [dataclasses.replace(item, question_id="") for item in theirs] == [
        dataclasses.replace(item, question_id="") for item in ours
    ]
    references = [feedback_files.reference_record(0)]
    (item,) = read_references(released(tmp_path, "train_1k.json", references))
    assert item.question_id == "qaf-train1k-0000"


def test_an_id_is_not_invented_for_an_unknown_file(tmp_path):
    path = released(tmp_path, "mine.json", [feedback_files.feedback_record(0)])
    with pytest.raises(BadData, match=r"mine\.json:2: field 'question_id' is missing"):
        list(read_feedback(path))
