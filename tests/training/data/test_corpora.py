"""Every corpus by name: good files, the same bad files for each of them, and the counts of the real ones."""

import gzip
import json
from collections import Counter
from pathlib import Path

import corpus_files
import feedback_files
import pytest
import real_data

from tureen_training.data.corpora import CORPORA, LicenceRefused, Use, open_corpus
from tureen_training.data.jsonl import BadData
from tureen_training.data.qa_feedback import read_feedback
from tureen_training.data.records import Comparison, Example, Split, cycle

NAMES = sorted(CORPORA)


def read(name, path) -> list[Example]:
    return list(open_corpus(name, path, use=Use.EVALUATION))


def place(name, directory: Path, suffix: str) -> Path:
    """Where the file of a corpus lies in a directory of all data."""
    corpus = CORPORA[name]
    path = directory / corpus.folder / f"{corpus.files[-1]}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_every_corpus_is_tested():
    assert set(corpus_files.RECORDS) == set(CORPORA)


@pytest.mark.parametrize("name", NAMES)
def test_gzip_plain_and_array_are_the_same(tmp_path, name):
    records = [corpus_files.RECORDS[name](i) for i in range(3)]
    found = []
    for suffix in ("jsonl", "jsonl.gz", "json"):
        path = place(name, tmp_path / suffix, suffix)
        if suffix == "json":
            path.write_text(json.dumps(records, indent=1), encoding="utf-8")
        else:
            feedback_files.write(path, records)
        found.append(read(name, tmp_path / suffix))
        assert read(name, path) == found[0]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == len({example.prompt_id for example in found[0]}) == 3


GOOD, BAD = 0, 1  # the numbers of the records on line 1 and line 2
FILES = {
    "empty": (b"", "1: the file is empty"),
    "cut off": (b'%(good)s\n{"id', "2: not JSON: Unterminated string"),
    "blank line": (b"%(good)s\n\n", "2: the line is blank"),
    "no object": (b"%(good)s\n[]\n", "2: expected an object, got list"),
    "not UTF-8": (b'%(good)s\n{"id": "\xe9"}\n', "2: not UTF-8"),
    "not a number": (b'%(good)s\n{"x": NaN}\n', "2: not JSON: NaN is no number"),
    "lone surrogate": (b'%(good)s\n{"x": "\\udc00"}\n', "2: a text holds the lone surrogate"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, kind):
    content, problem = FILES[kind]
    good = json.dumps(corpus_files.RECORDS[name](GOOD)).encode()
    for suffix in ("jsonl", "jsonl.gz"):
        path = tmp_path / f"bad.{suffix}"
        raw = content.replace(b"%(good)s", good)
        path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
        with pytest.raises(BadData, match=rf"^{path}:{problem}"):
            read(name, path)


@pytest.mark.parametrize("name", NAMES)
def test_truncated_gzip(tmp_path, name):
    make = corpus_files.RECORDS[name]
    one, two = (gzip.compress(json.dumps(make(i)).encode() + b"\n") for i in (GOOD, BAD))
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(one + two[: len(two) // 2])
    with pytest.raises(BadData, match=rf"^{path}:2: broken gzip data"):
        read(name, path)


@pytest.mark.parametrize("name", NAMES)
def test_an_id_stands_for_one_record(tmp_path, name):
    records = [corpus_files.RECORDS[name](i) for i in (0, 1, 0)]
    path = feedback_files.write(tmp_path / "bad.jsonl", records)
    with pytest.raises(BadData, match=rf"^{path}:3: \w+ '.*' was already on line 1"):
        read(name, path)


OPTIONAL = {  # fields that a reader does without, or that only people read
    "hh": {"id", "conversation_id", "prompt_end"},
    "halueval": {"record_id", "ID", "question_id", "method", "span_offsets"},
    "haluquestqa_sentences": {"instruction"},
    "alpaca_eval_gpt4": {"judgments"},
    "prometheus_gpt4": {"judgments"},
    "own": {"rankings", "pairs", "ties", "ratings", "spans", "ignored"},
}


def required(name):
    left_out = set().union(
        *(fields for start, fields in OPTIONAL.items() if name.startswith(start))
    )
    return sorted(set(corpus_files.RECORDS[name](BAD)) - left_out)


FIELDS = [(name, field) for name in NAMES for field in required(name)]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_that_is_missing_or_of_the_wrong_type_or_blank(tmp_path, name, field):
    make = corpus_files.RECORDS[name]
    path = tmp_path / "bad.jsonl"
    for changed in ("missing", 2.5, True, None, {"a": [1]}, " "):
        record = make(BAD)
        if changed == "missing":
            del record[field]
        else:
            record[field] = changed
        feedback_files.write(path, [make(GOOD), record])
        with pytest.raises(BadData, match=rf"^{path}:2: .*{field}"):
            read(name, path)


SPANS = {
    "qa_feedback": (("feedback", "errors", 0, "end"), 10_000),
    "halueval_general": (("span_offsets", 0, 1), 28),
    "haluquestqa": (("errors", 0, "offsets", 1), 22),
    "own": (("spans", "factuality", 2, 0, 1), 9),
}


@pytest.mark.parametrize("name", SPANS)
def test_a_span_past_the_end(tmp_path, name):
    keys, end = SPANS[name]
    record = corpus_files.RECORDS[name](BAD)
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = end
    path = feedback_files.write(tmp_path / "bad.jsonl", [corpus_files.RECORDS[name](GOOD), record])
    with pytest.raises(BadData, match=rf"^{path}:2: .*span \[\d+, {end}\) does not lie in"):
        read(name, path)


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_streams(tmp_path, name):
    """An example is there before a later line is read."""
    records = [json.dumps(corpus_files.RECORDS[name](i)) for i in range(2)]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join([*records, "{broken"]), encoding="utf-8")
    examples = open_corpus(name, path, use=Use.EVALUATION)
    assert isinstance(next(examples), Example)


def test_an_unknown_name_offers_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="unknown corpus 'hh_harmles'; did you mean 'hh_harmless'"):
        open_corpus("hh_harmles", tmp_path, use=Use.EVALUATION)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no file train_feedback with any of"):
        open_corpus("qa_feedback_train", tmp_path, use=Use.TRAINING)


def test_parts_of_the_split_add_up(tmp_path):
    path = feedback_files.write(tmp_path / "own.jsonl", [corpus_files.own(i) for i in range(40)])
    parts = [
        {e.prompt_id for e in open_corpus("own", path, use=Use.TRAINING, split=split)}
        for split in Split
    ]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40


@pytest.mark.parametrize("name", ["alpaca_eval_gpt4", "hh_helpful_cleaned", "flask"])
def test_restricted_corpora_are_trained_on_only_when_accepted(tmp_path, name):
    path = feedback_files.write(tmp_path / "r.jsonl", [corpus_files.RECORDS[name](0)])
    with pytest.raises(LicenceRefused, match=rf"{name} is not trained on unasked: .*accept it by"):
        open_corpus(name, path, use=Use.TRAINING)
    assert list(open_corpus(name, path, use=Use.EVALUATION))
    assert list(open_corpus(name, path, use=Use.TRAINING, accept=[name]))


def test_all_but_those_state_a_licence_that_allows_training():
    free = {name: corpus for name, corpus in CORPORA.items() if not corpus.restriction}
    assert set(CORPORA) - set(free) == {"alpaca_eval_gpt4", "hh_helpful_cleaned", "flask"}
    for name, corpus in free.items():
        # whose data "own" is, its user knows
        assert (not corpus.licences) == (name == "own")
        assert all(
            ": MIT" in x or ": Apache-2.0" in x or ": CC BY-SA" in x for x in corpus.licences
        )


def test_remarks_name_what_is_left_out_and_preferences_in_a_circle(tmp_path):
    around = corpus_files.own(0) | {
        "pairs": [
            {"chosen": 0, "rejected": 1, "rater": "bob"},
            {"chosen": 1, "rejected": 0, "rater": "bob"},
        ]
    }
    path = feedback_files.write(tmp_path / "own.jsonl", [around, corpus_files.own(1)])
    examples = open_corpus("own", path, use=Use.TRAINING)
    assert examples.remarks() == []
    assert len(list(examples)) == 2
    (remark,) = examples.remarks()
    assert remark.startswith(
        "1 raters' preferences run in a circle, the first on own-0: bob prefers"
    )
    path = feedback_files.write(tmp_path / "f.jsonl", [corpus_files.flask(0)])
    examples = open_corpus("flask", path, use=Use.EVALUATION)
    assert len(list(examples)) == 1
    assert examples.remarks() == ["1 × blank response left out"]


REAL = {  # from the description of the data: records, responses, comparisons
    "hh_harmless": {"pairs": 1857},
    "hh_helpful_cleaned": {"pairs": 1877},
    "halueval_general": {"examples": 3606},
    "halueval_qa": {"pairs": 800, "examples": 400},  # two rows a question
    "haluquestqa": {"examples": 698, "preference": 698, "responses": 1396},
    "haluquestqa_sentences": {"examples": 509},
    "pandalm_human": {"examples": 170, "responses": 800, "judgments": 3 * 999},
    "tulu_human": {"examples": 332, "responses": 1328, "judgments": 1150},
    "alpaca_eval_gpt4": {"examples": 780, "responses": 10138},
    "vicuna80_gpt4": {"examples": 80, "responses": 640, "judgments": 4480},
    "prometheus_gpt4": {"responses": 640},
    "flask": {"examples": 1700, "responses": 8 * 1700},
}
LEFT_OUT = {  # what a count of the description includes, and the examples do not
    "pairs": ("blank response",),
    "responses": ("blank response", "response without a score"),
    "judgments": ("judgment of a blank response", "unreadable verdict"),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_counts_of_the_real_data(name):
    directory = real_data.data_directory()
    if directory is None:
        pytest.skip(real_data.REASON)
    try:
        examples = open_corpus(name, directory, use=Use.EVALUATION)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    counts: Counter[str] = Counter()
    for example in examples:
        comparisons = sum(map(len, (*example.pairs.values(), *example.ties.values())))
        counts.update(
            examples=1,
            responses=len(example.responses),
            pairs=sum(map(len, example.pairs.values())),
            preference=len(example.pairs.get(Comparison.PREFERENCE, ())),
            judgments=comparisons,
        )
    for what, expected in REAL[name].items():
        left_out = sum(examples.skipped[reason] for reason in LEFT_OUT.get(what, ()))
        assert counts[what] + left_out == expected, what


def test_real_preferences_of_qa_feedback_run_in_no_circle():
    directory = real_data.data_directory()
    if directory is None:
        pytest.skip(real_data.REASON)
    items = list(read_feedback(CORPORA["qa_feedback"].file(directory)))
    assert len(items) == 400
    for item in items:
        assert len(item.preferences.pairs) + len(item.preferences.ties) == 6
        assert cycle(item.preferences.pairs) is None
