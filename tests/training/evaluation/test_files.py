"""Tables and JSON as one stream of records; whatever is wrong names the file and the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import corpus_files
import feedback_files
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError
from stand_in_hub import COMMIT, StandInHub

from tureen_training import cli
from tureen_training.data.jsonl import BadData
from tureen_training.evaluation.files import find, local, rows


def test_a_table_quotes_and_a_tsv_does_not(tmp_path: Path):
    (tmp_path / "a.csv").write_text('x,y\n"one, two","said ""no"""\nthree,four\n')
    (tmp_path / "a.tsv").write_text('x\ty\n"one\ttwo, three\n')
    found = [fields.record for fields in rows(tmp_path / "a.csv")]
    assert found == [{"x": "one, two", "y": 'said "no"'}, {"x": "three", "y": "four"}]
    assert [f.record for f in rows(tmp_path / "a.tsv")] == [{"x": '"one', "y": "two, three"}]


def test_packed_and_marked(tmp_path: Path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\ufeffx\none\n".encode()))
    assert [f.record for f in rows(tmp_path / "a.csv.gz")] == [{"x": "one"}]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"x,y\n1,2\n1,2,3\n", "a.csv:3: the header has 2 columns"),
        ("a.tsv", b"x\ty\n1\n", "a.tsv:2: the header has 2 columns"),
        ("a.csv", b"x,y\n", "a.csv:1: the table is empty"),
        ("a.csv", b'x\n"open\n', r"a.csv:\d: no table"),
        ("a.csv", b"x\n\xff\n", "a.csv:.: no table"),
        ("a.parquet", b"PAR1 nothing", "a.parquet:1: no Parquet file"),
        ("a.jsonl", b"{]\n", "a.jsonl:1: not JSON"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: bytes, problem: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadData, match=problem):
        list(rows(path))


def test_a_file_is_found_in_its_folder_or_beside(tmp_path: Path):
    (tmp_path / "one.csv").touch()
    assert find(tmp_path, "suite", "none", "one") == tmp_path / "one.csv"
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/one.jsonl.gz").touch()
    assert find(tmp_path, "suite", "one") == tmp_path / "suite/one.jsonl.gz"
    with pytest.raises(FileNotFoundError, match="suite holds no file two with any of"):
        find(tmp_path, "suite", "two")


def test_data_that_is_no_directory(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("{}")
    assert local(str(tmp_path)) == tmp_path
    with pytest.raises(NotADirectoryError, match="nope', which does not exist; give the directory"):
        local(str(tmp_path / "nope"))
    with pytest.raises(NotADirectoryError, match=r"a\.jsonl', which is a file; give the directory"):
        local(str(tmp_path / "a.jsonl"))


def test_of_the_hub_owner_and_name_are_needed():
    for wrong in ("hf://datasets/name", "hf://owner/name"):
        with pytest.raises(ValueError, match="of the hub give hf://datasets/OWNER/NAME"):
            local(wrong)


def test_a_data_set_of_the_hub_from_the_command_on(tmp_path: Path, monkeypatch, capsys):
    """Laid out as Anthropic/hh-rlhf: the client resolves the revision, lists it and fetches each file, once."""
    for part, count in (("harmless-base", 2), ("helpful-base", 3)):
        folder = tmp_path / "hub/owner/name" / part
        folder.mkdir(parents=True)
        feedback_files.write(folder / "test.jsonl.gz", [corpus_files.hh(n) for n in range(count)])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with StandInHub(tmp_path / "hub") as hub:
        place = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        options = ["--suite", "hh_rlhf", "--model", "length", "--data"]
        assert cli.main(["evaluate", *options, "hf://datasets/owner/name@v1"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["harmless_accuracy"]["n"] == 2
        assert found["helpful_accuracy"]["n"] == 3
        assert any("/owner/name/revision/v1" in one for one in hub.asked)
        fetched = [one for one in hub.asked if one.startswith("GET /datasets/")]
        assert len(fetched) == 2
        assert local("hf://datasets/owner/name@v1").name == COMMIT
        assert [one for one in hub.asked if one.startswith("GET /datasets/")] == fetched
        with pytest.raises(RepositoryNotFoundError):
            local("hf://datasets/owner/none")
        assert cli.main(["evaluate", *options, "hf://datasets/owner/none"]) == 2
    assert "tureen-train evaluate: " in capsys.readouterr().err


def test_a_clone_of_a_release_is_read_where_it_keeps_its_files(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/general_data.json").touch()
    found = find(tmp_path, "halueval", "general", "general_data")
    assert found == tmp_path / "data/general_data.json"
