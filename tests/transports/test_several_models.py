"""A real server process of two models: each answers as it would alone, and has soups of its own."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pico
import pytest
from doors import http_refusal
from held_engine import rewards
from server_process import ADMIN, Server, serving

from tureen import cli
from tureen.config import Config
from tureen.contracts import Sample, ScoreRequest, ScoreResponse
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.errors import InvalidRequest, UnknownModel, UnknownSoup
from tureen.model.manifest import ModelError
from tureen.model.soup import make_soup
from tureen.transports.soup_source import ordered

LEAN = {"member-0": 0.9, "member-1": 0.1}
SAMPLES = tuple(
    Sample(prompt=f"Who {i}?", responses=(f"Rembrandt in {i}.", "No.")) for i in range(6)
)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("first", "second")):
        make_soup(pico.bert_members(folder / str(seed), 2, seed), None, folder / name, "uniform")
    return {name: folder / name for name in ("first", "second")}


@pytest.fixture(scope="module", params=["one process", "front ends"])
def server(
    directories: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("state")
    flags = ["--model", str(directories["second"]), "--state-dir", str(state), "--backend", "torch"]
    if request.param == "front ends":
        flags += ["--front-ends", "1"]
    with serving(str(directories["first"]), *flags, env={"TUREEN_ADMIN_KEY": ADMIN}) as running:
        yield running


@pytest.fixture(scope="module")
def alone(directories: dict[str, Path]) -> dict[str, ScoreResponse]:
    async def scored(directory: Path) -> ScoreResponse:
        scorer = Scorer([load_model(directory, backend="torch")])
        await scorer.start()
        response = await scorer.score(ScoreRequest(samples=SAMPLES))
        await scorer.stop()
        return response

    return {name: asyncio.run(scored(directory)) for name, directory in directories.items()}


def flat(response: ScoreResponse) -> list[float]:
    return [reward for some in rewards(response) for reward in some or ()]


def test_each_answers_as_it_would_alone(admin, alone: dict[str, ScoreResponse]):
    listed = admin.models()
    assert listed.default_model == "first"
    assert [one.id for one in listed.models] == ["first", "second"]
    for name, expected in alone.items():
        answered = admin.score_samples(SAMPLES, model=name)
        assert (answered.model, answered.fingerprint) == (name, expected.fingerprint)
        assert flat(answered) == pytest.approx(flat(expected), abs=1e-5)
    assert admin.score_samples(SAMPLES).model == "first"
    assert flat(alone["first"]) != pytest.approx(flat(alone["second"]), abs=1e-3)


def test_a_model_that_is_not_served_is_unknown(admin):
    with pytest.raises(UnknownModel, match="did you mean 'second'"):
        admin.score_samples(SAMPLES, model="secnd")
    with pytest.raises(UnknownModel, match="did you mean 'first'"):
        admin.soups(model="frst")


def test_soups_are_those_of_the_model_that_is_named(
    admin, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    origin = {name: admin.soups(model=name).active for name in ("first", "second")}
    assert (admin.soups().model, admin.soups().active) == ("first", origin["first"])
    made = admin.create_soup(LEAN, model="second").fingerprint
    with pytest.raises(UnknownSoup):
        admin.activate_soup(made)  # of the default model, which is another
    admin.activate_soup(made, model="second")
    try:
        assert admin.score_samples(SAMPLES, model="second").fingerprint == made
        assert admin.score_samples(SAMPLES).fingerprint == origin["first"]
        monkeypatch.setenv("TUREEN_ADMIN_KEY", ADMIN)
        assert cli.main(["soup", "list", server.url, "--model", "second", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["active"] == made
        assert admin.soups().history == ()
        shadow = admin.shadow_soup(origin["second"], model="second")
        assert (shadow.state, shadow.fingerprint) == ("shadow", origin["second"])
    finally:
        assert admin.rollback_soup(made, model="second").fingerprint == origin["second"]
    actions = [event.action for event in admin.soups(model="second").history]
    assert actions[-1] == "rollback"


def test_a_misspelt_parameter_changes_no_other_model(server: Server):
    with httpx2.Client(
        base_url=server.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60
    ) as http:
        refused = http_refusal(http.post("/v1/soups/rollback", params={"modle": "second"}))
    assert (refused.status, refused.code) == (422, InvalidRequest.code)
    assert "did you mean 'model'" in refused.message


def test_a_query_names_no_model_of_a_request_that_has_a_body(server: Server):
    """Else the first would answer whoever asked for the second so."""
    sample = {"prompt": "Who?", "responses": ["Rembrandt."]}
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        for path, body in (("/v1/score", {"samples": [sample]}), ("/v1/rank", sample)):
            refused = http_refusal(http.post(path, params={"model": "second"}, json=body))
            assert (refused.status, refused.code) == (422, InvalidRequest.code)
            assert "'model' is not a query parameter here" in refused.message


def test_drop_in_routes_ask_the_model_that_they_name(
    server: Server, alone: dict[str, ScoreResponse]
):
    body = {"query": "Who 0?", "documents": list(SAMPLES[0].responses)}
    texts = {"query": "Who 0?", "texts": list(SAMPLES[0].responses)}
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        for name in ("first", "second"):
            answer = http.post("/rerank", json=body | {"model": name}).json()
            found = {one["index"]: one["relevance_score"] for one in answer["results"]}
            assert [found[0], found[1]] == pytest.approx(flat(alone[name])[:2], abs=1e-5)
            answer = http.post("/rerank", json=texts | {"model": name}).json()
            found = {one["index"]: one["score"] for one in answer}
            assert [found[0], found[1]] == pytest.approx(flat(alone[name])[:2], abs=1e-5)
        assert http.post("/rerank", json=body | {"model": "gpt"}).status_code == 404
        for path, asked in (
            ("/rerank", texts),
            ("/invocations", texts),
            ("/predict", {"inputs": "user: Who?\nassistant: I."}),
            ("/get_reward", {"query": ["user: Who?\nassistant: I."]}),
            ("/rm", {"prompt": "Who?", "response": "I."}),
        ):
            named = [http.post(path, json=asked | {"model": name}) for name in alone]
            assert named[0].json() == http.post(path, json=asked).json() != named[1].json()
            unknown = http.post(path, json=asked | {"model": "gpt"})
            assert unknown.status_code == 404
            assert "gpt" in unknown.text
        ready = http.get("/v2/models/second/ready").json()
        assert ready["name"] == "second"
        metrics = http.get("/metrics").text
        assert http.get("/readyz").status_code == 200
    for name in ("first", "second"):
        assert f'tureen_batch_rows_count{{model="{name}"}}' in metrics
        assert f'tureen_queue_entries{{lane="bulk",model="{name}"}}' in metrics


def test_two_that_a_request_could_not_tell_apart_are_refused(
    directories: dict[str, Path], tmp_path: Path
):
    first = str(directories["first"])
    for flags in ([first, first], ["stub", "stub"]):
        with pytest.raises(ModelError, match="are both called"):
            ordered(Config(model=tuple(flags), state_dir=tmp_path))


def test_the_same_model_under_two_names_is_refused(directories: dict[str, Path], tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(directories["first"], copy)
    described = json.loads((copy / "tureen.json").read_text())
    (copy / "tureen.json").write_text(json.dumps(described | {"model_id": "copy"}))
    with pytest.raises(ModelError, match="are the same model"):
        ordered(Config(model=(str(directories["first"]), str(copy)), state_dir=tmp_path))


@pytest.mark.parametrize("front_ends", [[], ["--front-ends", "1"]])
def test_one_that_cannot_be_loaded_ends_the_start_and_is_named(
    directories: dict[str, Path],
    tmp_path: Path,
    front_ends: list[str],
):
    flags = ["--backend", "onnx", "--http-port", "0", "--grpc-port", "0"]
    flags += ["--state-dir", str(tmp_path), *front_ends]
    command = [sys.executable, "-m", "tureen.cli", "serve", "stub", str(directories["second"])]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert f"{directories['second']} has no float32 ONNX export" in ended.stderr
