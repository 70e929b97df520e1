"""A real Ray cluster on this machine: a replica that becomes two, and one that is killed at work.

The tests share the cluster, in their order: starting one takes longer than all of them.
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pico
import psutil
import pytest
from asked_all_the_time import asked_all_the_time
from engine_fakes import wait_until
from held_engine import rewards
from prometheus_client.parser import text_string_to_metric_families
from server_process import Server, serving

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.contracts import Sample, ScoreRequest, ScoreResponse, SoupState
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.errors import Forbidden, TureenError
from tureen.model.soup import make_soup

pytest.importorskip("ray", reason="needs Ray Serve: tureen[ray]")
pytestmark = pytest.mark.slow

KEY, ADMIN = "scoring-key-0", "admin-key-0"
LEAN = {"member-0": 0.9, "member-1": 0.1}
SAMPLES = [
    Sample(id=f"{i}", prompt=f"Who {i}?", responses=(f"Rembrandt in {i}.", "No.")) for i in range(8)
]
REFUSED = ScoreRequest(samples=(Sample(prompt="Who?", responses=("I.",)),), heads=("factualty",))
PACE_S = 0.2  # of a client while a replica starts, which wants the processor too
START_S = 240.0  # a machine that does much else starts a dozen processes slowly
ENV = {
    "TUREEN_API_KEY": KEY,
    "TUREEN_ADMIN_KEY": ADMIN,
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.2",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    return folder / "soup"


@pytest.fixture(scope="module")
def cluster(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = [
        *("--state-dir", str(tmp_path_factory.mktemp("state")), "--backend", "torch"),
        *("--min-replicas", "1", "--max-replicas", "2", "--num-cpus", "0.5"),
        *("--target-ongoing-requests", "0.02", "--upscale-delay-s", "0"),
    ]
    with serving(
        str(directory), *flags, command="serve-ray", env=ENV, timeout_s=START_S
    ) as running:
        yield running
        assert running.stop(60) == 0, "".join(running.log)


@pytest.fixture(scope="module")
def admin(cluster: Server) -> Iterator[RewardClient]:
    with RewardClient(cluster.url, api_key=ADMIN, timeout_s=60) as client:
        yield client


def in_process(directory: Path, request: ScoreRequest) -> ScoreResponse:
    async def score() -> ScoreResponse:
        scorer = Scorer([load_model(directory, backend="torch", threads=1)])
        await scorer.start()
        try:
            return await scorer.score(request)
        finally:
            await scorer.stop()

    return asyncio.run(score())


def by_replica(cluster: Server, name: str) -> dict[str, float]:
    text = httpx2.get(f"{cluster.url}/metrics", timeout=30).text
    return {
        sample.labels["replica"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def engines(cluster: Server) -> list[psutil.Process]:
    """The processes of the replicas, which Ray gives titles."""
    return [
        process
        for process in psutil.Process(cluster.process.pid).children(recursive=True)
        if "Engine" in " ".join(process.cmdline())
    ]


def test_the_contract_is_that_of_the_server(cluster: Server, directory: Path):
    expected = in_process(directory, ScoreRequest(samples=tuple(SAMPLES), uncertainty=True))
    with (
        RewardClient(cluster.url, api_key=KEY) as http,
        GrpcRewardClient(cluster.target, api_key=KEY) as grpc,
    ):
        streamed = dict(grpc.stream(SAMPLES, uncertainty=True))
        for client in (http, grpc):
            got = client.score_samples(SAMPLES, uncertainty=True)
            assert got.fingerprint == expected.fingerprint
            assert client.model().fingerprint == expected.fingerprint
            for one, other in zip(got.results, expected.results, strict=True):
                assert one.id == other.id
                assert one.scores is not None
                assert other.scores is not None
                for score, known in zip(one.scores, other.scores, strict=True):
                    assert score.reward == pytest.approx(known.reward, abs=1e-5)
                    assert score.uncertainty is not None
                    assert known.uncertainty is not None
                    assert score.uncertainty.std == pytest.approx(known.uncertainty.std, abs=1e-5)
            assert rewards(got) == [
                [pytest.approx(score.reward, abs=1e-5) for score in streamed[place].scores or ()]
                for place in range(len(SAMPLES))
            ]
            with pytest.raises(TureenError) as refusal:
                client.send(REFUSED)
            with pytest.raises(TureenError) as known:
                in_process(directory, REFUSED)
            assert refusal.value.info() == known.value.info()
            with pytest.raises(Forbidden):
                client.soups()


def test_load_brings_a_second_replica(cluster: Server, admin: RewardClient):
    assert len(by_replica(cluster, "tureen_reward_count")) == 1
    expected = {admin.soups().active: rewards(admin.score_samples(SAMPLES))}

    def both_work() -> bool:
        counts = by_replica(cluster, "tureen_reward_count")
        return len(counts) == 2 and all(counts.values())

    with asked_all_the_time(cluster, SAMPLES, expected, api_key=KEY, pace_s=PACE_S):
        wait_until(both_work, "a second replica that answers", patience_s=START_S)


def test_a_soup_becomes_active_on_every_replica_and_no_request_sees_two(
    cluster: Server, admin: RewardClient
):
    origin = admin.soups().active
    lean = admin.create_soup(LEAN).fingerprint
    expected = {origin: rewards(admin.score_samples(SAMPLES))}
    admin.activate_soup(lean)
    expected[lean] = rewards(admin.score_samples(SAMPLES))
    admin.rollback_soup(lean)
    with asked_all_the_time(cluster, SAMPLES, expected, api_key=KEY) as asking:
        for _ in range(3):
            for active in (lean, origin):
                changed = admin.activate_soup(active) if active == lean else admin.rollback_soup()
                assert changed.state is SoupState.ACTIVE
                # Asked after the change was confirmed: no replica answers by the old one.
                answers = [admin.score_samples([one]) for one in SAMPLES]
                assert {one.fingerprint for one in answers} == {active}
    assert set(asking.answered) == {origin, lean}
    assert admin.activate_soup(lean).state is SoupState.ACTIVE


def test_a_replica_that_is_killed_at_work_loses_nothing(cluster: Server, admin: RewardClient):
    """Its place is taken by one that comes up with the soup that is active."""
    active = admin.soups().active
    expected = {active: rewards(admin.score_samples(SAMPLES))}
    before = set(by_replica(cluster, "tureen_reward_count"))

    def replaced() -> bool:
        counts = by_replica(cluster, "tureen_reward_count")
        return len(counts) == 2 and set(counts) != before and all(counts.values())

    with asked_all_the_time(cluster, SAMPLES, expected, api_key=KEY, retry=Retry()) as asking:
        wait_until(lambda: asking.answered[active] > 50, "work", patience_s=START_S)
        one, _ = engines(cluster)
        one.send_signal(signal.SIGKILL)
        survived = asking.answered[active] + 50
        wait_until(lambda: asking.answered[active] > survived, "the other", patience_s=START_S)
        asking.pace_s = PACE_S
        wait_until(replaced, "another replica that answers", patience_s=START_S)
    assert set(asking.answered) == {active}  # and every request was answered
    assert active != admin.soups().soups[0].fingerprint  # not that of the directory
