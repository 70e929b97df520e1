import gzip
import json
import pickle
from pathlib import Path

import feedback_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen.text.segments import Span
from tureen_training.data import jsonl
from tureen_training.data.jsonl import BadData, Fields, find, records, stem_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: "\\u0000" not in json.dumps(value))
OBJECTS = st.lists(st.dictionaries(st.text('ab"\\[]{},:\n é'), JSON, max_size=3), min_size=1)


def read(path):
    return [fields.record for fields in records(path)]


@settings(max_examples=40, deadline=None)
@given(objects=OBJECTS, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
def test_an_array_is_read_as_json_reads_it(tmp_path_factory, objects, indent, ascii_only):
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(objects, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert read(path) == objects


@settings(max_examples=40, deadline=None)
@given(objects=OBJECTS, chunk=st.integers(1, 9))
def test_chunks_may_end_anywhere(tmp_path_factory, objects, chunk):
    """Within an escape, a character of several bytes, or a bracket's string."""
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(objects, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_CHUNK_BYTES", chunk)
        assert read(path) == objects


def test_each_record_knows_its_line_and_position(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n {"a":\n  2}\n , \n{"a": 3}]\n')
    assert [(f.index, f.line, f.record["a"]) for f in records(path)] == [
        (0, 1, 1),
        (1, 2, 2),
        (2, 5, 3),
    ]
    path = feedback_files.write(tmp_path / "a.jsonl.gz", [{"a": 1}, {"a": 2}])
    assert [(f.index, f.line) for f in records(path)] == [(0, 1), (1, 2)]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_json_file_may_hold_one_object_a_line(tmp_path, name):
    """So the releases of HaluEval are called."""
    path = feedback_files.write(tmp_path / name, [{"a": 1}, {"a": "é"}])
    assert [(f.line, f.record) for f in records(path)] == [(1, {"a": 1}), (2, {"a": "é"})]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_record_is_there_before_the_next_is_read(tmp_path, name):
    path = tmp_path / name
    path.write_text('[{"a": 1},\n{"a" 2}]' if name == "a.json" else '{"a": 1}\n{"a" 2}\n')
    fields = records(path)
    assert next(fields).record == {"a": 1}
    with pytest.raises(BadData, match=rf"{name}:2: not JSON: Expecting ':' delimiter"):
        next(fields)


GOOD = b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "1: the file is empty; at least one record is needed"),
        (GOOD + b"\n", "2: the line is blank"),
        (GOOD + b"{", "2: not JSON: Expecting property name"),
        (GOOD + b'{"a": 1} x', "2: not JSON: Extra data"),
        (GOOD + b"[1]", "2: expected an object, got list"),
        (GOOD + b"3", "2: expected an object, got int"),
        (GOOD + b"null", "2: expected an object, got NoneType"),
        (GOOD + b'{"a": "\xff"}\n', "2: not UTF-8"),
        (GOOD + b'{"a": "\xc3', "2: not UTF-8"),
        (GOOD + b'{"a": NaN}', "2: not JSON: NaN is no number in JSON; write null"),
        (GOOD + b'{"a": -Infinity}', "2: not JSON: -Infinity is no number"),
        (GOOD + b'{"a": ["\\ud800"]}', r"2: a text holds the lone surrogate U\+D800"),
        (GOOD + b'{"a\\u0000": 1}', r"2: a text holds U\+0000"),
        (GOOD + b'{"a":' + b"[" * 200_000, "2: nested too deeply"),
        (GOOD + b'{"a": ' + b"9" * 5000 + b"}", "2: not JSON: Exceeds the limit"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_bad_line_is_named(tmp_path, content, problem, suffix):
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(BadData, match=rf"^{path}:{problem}"):
        list(records(path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "1: the file is empty; at least one record is needed"),
        (b"\n[ ]\n", "1: the file is empty; at least one record is needed"),
        (b'\n{"a": 1}', "2: expected an array, which begins with"),
        (b'[{"a": 1},\n{"a"', "2: the array is not closed: the file breaks off"),
        (b'[{"a": 1},\n\n\n', "3: the array is not closed: the file breaks off"),
        (b'[{"a": 1}\n]\n{"b": 1}', "3: text after the end of the array"),
        (b'[{"a": 1}] [', "1: text after the end of the array"),
        (b'[{"a": 1},\n]', "2: not JSON: an element of the array is missing"),
        (b'[{"a": 1},\n,{"a": 1}]', "2: not JSON: an element of the array is missing"),
        (b'[{"a": 1},\n{"a":\n nope}]', "3: not JSON: Expecting value"),
        (b'[{"a": 1},\n"a"]', "2: expected an object, got str"),
        (b'[{"a": 1},\n{"a": "\xff"}]', "2: not UTF-8"),
        (b'[{"a": 1},\n{"a": NaN}]', "2: not JSON: NaN is no number in JSON"),
        (b'[{"a": 1}, {"a": "\xc3', "1: not UTF-8"),
        (b'{"a": 1}\n[{"a": 2}]', "2: expected an object, got list"),
        (b'{\n"a": 1}', "2: not JSON: Expecting property name"),
    ],
)
def test_a_bad_array_is_named(tmp_path, content, problem):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(BadData, match=rf"^{path}:{problem}"):
        list(records(path))


@pytest.mark.parametrize("suffix", ["json.gz", "jsonl.gz"])
def test_gzip_that_breaks_off(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    start = b"[" if suffix == "json.gz" else b""
    comma = b"," if suffix == "json.gz" else b""
    members = [gzip.compress(start + b'{"a": 1}' + comma + b"\n"), gzip.compress(b'{"a": 2}\n')]
    path.write_bytes(members[0] + members[1][: len(members[1]) // 2])
    fields = records(path)
    assert next(fields).record == {"a": 1}
    with pytest.raises(BadData, match=rf"^{path}:2: broken gzip data"):
        next(fields)
    for content in (b"no gzip", gzip.compress(b"")[:-4]):
        path.write_bytes(content)
        with pytest.raises(BadData, match=rf"^{path}:1: broken gzip data"):
            list(records(path))


def fields(**record) -> Fields:
    return Fields(record, Path("f.jsonl"), 7, 0)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda f: f.get("x", str), "field 'x' is missing"),
        (lambda f: f.get("yes", int), "'yes' must be int, got bool"),
        (lambda f: f.text("blank"), "'blank' is blank"),
        (lambda f: f.number("text"), "'text' must be float, got str"),
        (lambda f: f.number("huge"), "'huge' must be a finite number, got inf"),
        (lambda f: f.number("yes"), "'yes' must be float, got bool"),
        (lambda f: f.items("mixed", int), r"mixed\[1\] must be int, got str"),
        (lambda f: f.texts("texts"), r"texts\[1\] is blank"),
        (lambda f: list(f.objects("mixed")), r"mixed\[0\]: expected an object, got 1"),
        (lambda f: f.object("inner").get("y", str), "inner: field 'y' is missing"),
        (lambda f: f.one_of("text", ("a", "b")), "'text' is 'gull'; known: a, b"),
        (lambda f: f.only(["textt", "huge"]), "unknown field 'text'; did you mean 'textt'"),
        (lambda f: f.span([0, 5], "gull", "it"), r"span \[0, 5\) does not lie in it of 4"),
        (lambda f: f.span([2, 2], "gull", "it"), r"span \[2, 2\) does not lie in it"),
        (lambda f: f.span([-1, 2], "gull", "it"), r"span \[-1, 2\) does not lie in it"),
        (lambda f: f.span([0.0, 2], "gull", "it"), r"a span must be \[start, end\]"),
        (lambda f: f.span([0], "gull", "it"), r"a span must be \[start, end\]"),
        (lambda f: f.span(None, "gull", "it"), r"a span must be \[start, end\], two whole"),
    ],
)
def test_fields_say_what_is_wrong(call, problem):
    record = fields(
        text="gull",
        yes=True,
        blank=" ",
        huge=float("inf"),
        mixed=[1, "a"],
        texts=["a", "\n"],
        inner={},
    )
    with pytest.raises(BadData, match=rf"^f\.jsonl:7: {problem}"):
        call(record)


def test_fields_give_what_is_there():
    record = fields(n=3, x=0.5, none=None, t="a", list=[1, 2])
    assert (record.number("n"), record.number("x")) == (3.0, 0.5)
    assert record.optional("none", str) is record.optional("absent", str) is None
    assert record.optional_text("t") == "a"
    assert record.items("list", int) == [1, 2]
    assert record.span([1, 3], "gull", "it") == Span(1, 3)


def test_find(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no file a or b with any of \.jsonl\.gz, "):
        find(tmp_path, "a", "b")
    (tmp_path / "b.json").touch()
    assert find(tmp_path, "a", "b") == tmp_path / "b.json"
    (tmp_path / "a.jsonl").touch()
    assert find(tmp_path, "a", "b") == tmp_path / "a.jsonl"
    (tmp_path / "a.test.jsonl.gz").touch()
    assert stem_of(find(tmp_path, "a.test")) == "a.test"


def test_the_error_travels_between_processes(tmp_path):
    error = BadData(tmp_path / "a", 3, "broken")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line) == (str(error), 3)
