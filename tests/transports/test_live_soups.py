"""Soups of a real server process: over HTTP, gRPC and `tureen soup`, under load and after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pico
import pytest
from asked_all_the_time import asked_all_the_time
from doors import http_refusal
from held_engine import rewards
from server_process import ADMIN, Server, serving

from tureen import cli
from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.contracts import Sample, SoupState
from tureen.engine.loading import load_model
from tureen.errors import (
    Forbidden,
    IncompatibleSoup,
    InvalidRequest,
    Unauthenticated,
    UnknownSoup,
)
from tureen.model.soup import make_soup

KEY = "scoring-key-0"
KEYS = {"TUREEN_API_KEY": KEY, "TUREEN_ADMIN_KEY": ADMIN}
LEAN = {"member-0": 0.9, "member-1": 0.1}
SAMPLES = [Sample(prompt=f"Who {i}?", responses=(f"Rembrandt in {i}.", "No.")) for i in range(8)]
NEVER = Retry(max_retries=0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    return folder / "soup"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(directory: Path, state: Path) -> Iterator[Server]:
    flags = "--state-dir", str(state), "--backend", "torch"
    with serving(str(directory), *flags, env=KEYS) as running:
        yield running


def test_a_life_of_a_soup_through_both_doors(server: Server, admin):
    origin = admin.soups().active
    made = admin.create_soup(LEAN)
    assert made.coefficients == LEAN
    assert admin.shadow_soup(made.fingerprint).state is SoupState.SHADOW
    assert admin.score_samples(SAMPLES).fingerprint == origin
    assert admin.activate_soup(made.fingerprint).state is SoupState.ACTIVE
    with RewardClient(server.url, api_key=KEY) as other:
        assert other.score_samples(SAMPLES).fingerprint == made.fingerprint
        info = other.model()
        assert info.fingerprint == made.fingerprint
        assert {one.name: one.coefficient for one in info.ingredients} == LEAN
    assert admin.rollback_soup(made.fingerprint).fingerprint == origin
    after = admin.soups()
    assert (after.active, after.history[-1].action, after.history[-1].by) == (
        origin,
        "rollback",
        "admin-1",
    )


def test_refusals_are_the_same_at_both_doors(admin):
    with pytest.raises(UnknownSoup) as unknown:
        admin.activate_soup("sha256:0")
    assert unknown.value.field == "fingerprint"
    with pytest.raises(IncompatibleSoup, match="'stranger' is no ingredient"):
        admin.create_soup({"stranger": 1.0})
    with pytest.raises(InvalidRequest, match="add up to"):
        admin.create_soup({"member-0": 0.4})
    with pytest.raises(UnknownSoup):
        admin.rollback_soup("sha256:0")


@pytest.mark.parametrize("kind", [RewardClient, GrpcRewardClient])
def test_a_scoring_key_changes_nothing(server: Server, kind):
    at = server.url if kind is RewardClient else server.target
    with kind(at, api_key=KEY, retry=NEVER) as client:
        for ask in (
            client.soups,
            client.rollback_soup,
            lambda: client.create_soup(LEAN),
            lambda: client.activate_soup("sha256:0"),
            lambda: client.shadow_soup("sha256:0"),
        ):
            with pytest.raises(Forbidden):
                ask()
    with kind(at, api_key="guess", retry=NEVER) as client, pytest.raises(Unauthenticated):
        client.soups()


def test_http_statuses(server: Server):
    headers = {"authorization": f"Bearer {ADMIN}"}
    with httpx2.Client(base_url=server.url, headers=headers) as http:
        made = http.post("/v1/soups", json={"coefficients": LEAN})
        assert made.status_code == 202
        assert made.json()["fingerprint"].startswith("sha256:")
        cases = [
            (http.post("/v1/soups", json={"coefficients": {"x": 1.0}}), 409, "incompatible_soup"),
            (http.post("/v1/soups", json={"coefficient": LEAN}), 422, "invalid_request"),
            (http.post("/v1/soups/sha256:0/activate"), 404, "unknown_soup"),
            (http.get("/v1/soups", headers={"authorization": f"Bearer {KEY}"}), 403, "forbidden"),
        ]
        for response, status, code in cases:
            refusal = http_refusal(response)
            assert (refusal.status, refusal.code) == (status, code)


def test_a_swap_under_load_is_seen_whole_through_both_doors(server: Server, directory: Path):
    """Every request is answered, with the numbers of exactly the soup that its answer names."""
    with RewardClient(server.url, api_key=ADMIN, timeout_s=60) as admin:
        origin = admin.soups().active
        expected = {origin: rewards(admin.score_samples(SAMPLES))}
        lean = admin.create_soup(LEAN).fingerprint
        admin.activate_soup(lean)
        expected[lean] = rewards(admin.score_samples(SAMPLES))
        admin.rollback_soup(lean)
        with asked_all_the_time(server, SAMPLES, expected, api_key=KEY, retry=NEVER) as asking:
            for _ in range(3):
                admin.activate_soup(lean)
                admin.score_samples(SAMPLES)
                admin.rollback_soup(lean)
                admin.score_samples(SAMPLES)
        assert set(asking.answered) == {origin, lean}


def test_the_command(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("TUREEN_ADMIN_KEY", ADMIN)
    for url in (server.url, f"grpc://{server.target}"):
        shares = [f"--coefficient={name}={share}" for name, share in LEAN.items()]
        assert cli.main(["soup", "create", url, *shares, "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        short = made["fingerprint"].removeprefix("sha256:")[:12]
        for action, state in (("shadow", "shadow"), ("activate", "active")):
            assert cli.main(["soup", action, url, short, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["state"] == state
        assert cli.main(["soup", "list", url]) == 0
        shown = capsys.readouterr().out
        assert short in shown
        assert "admin-1" in shown
        assert ADMIN not in shown
        assert cli.main(["soup", "rollback", url, short]) == 0
        assert "active" in capsys.readouterr().out
    assert cli.main(["soup", "activate", server.url, "no"]) == 2
    assert "0 soups of soup begin with 'no'" in capsys.readouterr().err
    assert cli.main(["soup", "create", server.url, "--coefficient", "half"]) == 2


def test_a_restart_goes_on_with_the_soup_that_was_active(directory: Path, tmp_path: Path):
    flags = "--state-dir", str(tmp_path), "--backend", "torch"
    with serving(str(directory), *flags, env=KEYS) as first:
        with RewardClient(first.url, api_key=ADMIN) as admin:
            lean = admin.create_soup(LEAN).fingerprint
            admin.activate_soup(lean)
            history = admin.soups().history
        first.process.kill()  # nothing is left for the end
        first.process.wait()
    with serving(str(directory), *flags, env=KEYS) as second:
        with RewardClient(second.url, api_key=ADMIN) as admin:
            assert admin.score_samples(SAMPLES).fingerprint == lean
            assert admin.soups().history == history
        assert not any(key in line for key in (KEY, ADMIN) for line in second.log)
    assert load_model(directory, backend="torch", coefficients=LEAN).fingerprint == lean
