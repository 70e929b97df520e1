"""A directory and a running service give the same figures."""

from __future__ import annotations

import json
from pathlib import Path

import pico
import pytest
from server_process import Server, serving

from tureen.contracts import ErrorInfo
from tureen.errors import IncompatibleSoup
from tureen.model.manifest import ModelError
from tureen.model.soup import make_soup
from tureen_training import cli, evaluate
from tureen_training.data.records import Example
from tureen_training.evaluation.scorers import DirectoryScorer, ServiceScorer, open_scorer
from tureen_training.metrics import Figure

SAME = 1e-4


@pytest.fixture(scope="module")
def server(models: Path):
    with serving(str(models / "judge")) as running:
        yield running


@pytest.fixture(scope="module")
def local(models: Path, feedback: Path) -> dict[str, Figure]:
    return evaluate.main(evaluate.Config(data=str(feedback), model=str(models / "judge")))


def numbers(figures: dict[str, Figure]) -> dict[str, list[float]]:
    return {
        name: [figure.value, figure.low, figure.high, figure.n, figure.baseline]
        for name, figure in figures.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_service_gives_the_figures_of_its_model(
    door: str, server: Server, local, models: Path, feedback: Path, monkeypatch, capsys
):
    monkeypatch.setenv("TUREEN_MODELS", str(models))
    url = server.url if door == "http" else server.target
    assert cli.main(["evaluate", "--data", str(feedback), "--url", url]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == set(local)
    for name, expected in numbers(local).items():
        found = [answer[name][key] for key in ("value", "low", "high", "n", "baseline")]
        assert found == pytest.approx(expected, abs=SAME), name


@pytest.mark.slow
def test_a_threshold_that_nobody_knows_is_the_mean_and_said_to_be(
    server: Server, feedback: Path, capsys
):
    evaluate.main(evaluate.Config(data=str(feedback), url=server.url, limit=1))
    assert "the service does not say below which value" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_of_that_name_with_other_weights_lends_no_threshold(
    server: Server, models: Path, tmp_path: Path, monkeypatch
):
    (tmp_path / "judge").symlink_to(models / "other")
    monkeypatch.setenv("TUREEN_MODELS", str(tmp_path))
    scorer = ServiceScorer(server.url)
    scorer.close()
    assert not scorer.model.thresholds_known
    assert all(head.threshold is None for head in scorer.model.heads)


@pytest.mark.slow
def test_what_is_too_long_is_an_error_of_its_own_at_both(server: Server, models: Path):
    examples = [
        Example(prompt_id="long", origin="test", prompt="Why?", responses=("word " * 2000, "No.")),
        Example(prompt_id="short", origin="test", prompt="Why?", responses=("Yes.", "No.")),
    ]
    directory = DirectoryScorer(models / "judge", max_batch_tokens=4096)
    service = ServiceScorer(server.url)
    for scorer in (directory, service):
        found = dict(scorer.score(examples))
        scorer.close()
        assert isinstance(found[0], ErrorInfo)
        assert found[0].code == "input_too_long"
        assert not isinstance(found[1], ErrorInfo)
        assert len(found[1]) == 2


def test_a_member_is_judged_as_the_model_it_was(tmp_path: Path):
    """Raw values of heads: the calibration stays the soup's."""
    directories = pico.bert_members(tmp_path / "members", 2)
    make_soup(directories, None, tmp_path / "soup", "uniform")
    examples = [Example(prompt_id="p", origin="test", prompt="Why?", responses=("Yes.", "No."))]

    def values(scorer: DirectoryScorer) -> list[float]:
        ((_, found),) = scorer.score(examples)
        assert not isinstance(found, ErrorInfo)
        return [head.value for reading in found for head in reading.heads.values()]

    soup = DirectoryScorer(tmp_path / "soup", max_batch_tokens=4096)
    for directory in directories:
        alone = DirectoryScorer(directory, max_batch_tokens=4096)
        member = DirectoryScorer(tmp_path / "soup", member=directory.name, max_batch_tokens=4096)
        assert member.model.model_id == f"{soup.model.model_id}/{directory.name}"
        assert member.model.lineages == alone.model.lineages
        assert member.model.fingerprint != soup.model.fingerprint
        assert values(member) == pytest.approx(values(alone), abs=SAME)
        assert values(member) != pytest.approx(values(soup), abs=SAME)
        ((_, found),) = member.score(examples, members=True)
        assert not isinstance(found, ErrorInfo)
        assert [reading.members for reading in found] == [(reading.reward,) for reading in found]
    with pytest.raises(IncompatibleSoup, match="'member-2' is no ingredient"):
        DirectoryScorer(tmp_path / "soup", member="member-2", max_batch_tokens=4096)


@pytest.mark.parametrize("fields", [{"url": "localhost:1", "model": "m"}, {}])
def test_a_member_is_of_a_soup_that_is_loaded_here(fields: dict):
    with pytest.raises(ValueError, match="member is 'a', an ingredient of a soup"):
        evaluate.Config(data="d", member="a", **fields)
    with pytest.raises(ValueError, match="length is no soup"):
        open_scorer("length", member="a", max_batch_tokens=1)


def test_no_such_model():
    with pytest.raises(ModelError, match="no model 'grounded-qx'"):
        DirectoryScorer("grounded-qx", max_batch_tokens=1)
