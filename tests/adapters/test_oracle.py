"""An oracle in bad times: restarts, refusals, slowness, broken streams, swaps. Nothing is invented, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
from client.stand_in import GrpcStandIn, StandIn
from doors import open_doors
from engine_fakes import PATIENCE_S, wait_until
from server_process import serving

from tureen.adapters import oracle as module
from tureen.adapters.oracle import OracleUnavailable, RemoteOracle, SoupSwapped, Unscorable
from tureen.client import Retry
from tureen.contracts import Sample, ScoreRequest
from tureen.errors import BackendFailure, InvalidRequest, Overloaded, Unauthenticated, UnknownModel

SAMPLES = [Sample(prompt="p", responses=("x" * n,)) for n in range(1, 41)]
LENGTHS = [float(n) for n in range(1, 41)]  # the stand-in rewards length


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_PACE", Retry(max_retries=1, backoff_s=0.01, max_backoff_s=0.02))


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def server(service: StandIn) -> Iterator[GrpcStandIn]:
    with service.grpc() as running:
        yield running


@pytest.fixture
def oracle(server: GrpcStandIn) -> Iterator[RemoteOracle]:
    with RemoteOracle(server.address, patience_s=PATIENCE_S) as connected:
        yield connected


def rewards(found) -> list[float]:
    return [one.reward for one in found]


class TestOrder:
    def test_rewards_come_in_the_order_of_the_samples(self, oracle, service):
        service.second_first = True
        assert rewards(oracle.score(SAMPLES)) == LENGTHS

    def test_submitted_batches_are_scored_one_after_another(self, oracle):
        futures = [oracle.submit(SAMPLES[n : n + 8]) for n in range(0, 40, 8)]
        assert [one for future in futures for one in rewards(future.result())] == LENGTHS

    def test_nothing_is_nothing(self, oracle, service):
        assert oracle.score([]) == []
        assert service.calls == []


class TestWhatIsAsked:
    def test_the_options_go_along_in_the_lane_of_rollouts(self, server, service):
        options = {"aggregation": "worst_case", "penalty": 0.0, "weights": {"length": 2.0}}
        with RemoteOracle(server.address, api_key="k", **options) as oracle:
            oracle.score(SAMPLES[:1])
        [request] = service.scored()
        assert (request.aggregation, request.penalty) == ("worst_case", 0.0)
        assert (request.weights, request.uncertainty) == ({"length": 2.0}, True)
        sent = service.headers[-1]
        assert (sent["x-priority"], sent["authorization"]) == ("bulk", "Bearer k")

    def test_a_sample_has_one_response(self, oracle):
        with pytest.raises(ValueError, match=r"samples\[1\] has 2 responses"):
            oracle.submit([SAMPLES[0], Sample(prompt="p", responses=("a", "b"))])

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"patience_s": 0}, "patience_s is 0"),
            ({"on_swap": "ignore"}, "on_swap is 'ignore'"),
            ({"agregation": "mean"}, "did you mean 'aggregation'"),
            ({"aggregation": "median"}, "aggregation is 'median'"),
        ],
    )
    def test_arguments_that_mean_nothing(self, argument, message):
        with pytest.raises(ValueError, match=message):
            RemoteOracle("localhost:8081", **argument)


class TestUnscorable:
    def test_it_is_a_value_among_its_neighbours(self, oracle):
        found = oracle.score([SAMPLES[0], Sample(prompt="p", responses=("",)), SAMPLES[2]])
        assert found[1] == Unscorable("invalid_request", "responses[0] is empty.")
        assert rewards([found[0], found[2]]) == [1.0, 3.0]

    def test_a_sample_that_a_ready_service_fails_at_again_and_again(
        self, oracle, service, monkeypatch
    ):
        def result(sample):
            if sample.responses == ("xx",):
                raise BackendFailure("the device chokes on it")
            return StandIn.result(service, sample)

        monkeypatch.setattr(service, "result", result)
        found = oracle.score(SAMPLES[:3])
        assert isinstance(found[1], Unscorable)
        assert found[1].code == "backend_failure"
        assert rewards([found[0], found[2]]) == [1.0, 3.0]

    def test_one_that_fails_while_the_service_is_not_ready_is_asked_again(self, oracle, service):
        service.ready = False
        service.script += [BackendFailure("the worker died")] * 11
        assert rewards(oracle.score(SAMPLES[:1])) == [1.0]

    @pytest.mark.parametrize(
        "failure",
        [
            UnknownModel("no such model", field="model"),
            InvalidRequest("penalty is -1.0; give 0 or more.", field="penalty"),
            Unauthenticated("no key"),
        ],
    )
    def test_what_would_meet_every_sample_is_raised(self, oracle, service, failure):
        service.script += [failure] * 40
        with pytest.raises(type(failure), match=failure.message):
            oracle.score(SAMPLES)


class TestOutage:
    def test_a_refusal_with_a_hint_is_waited_for(self, oracle, service):
        service.script += [Overloaded("full", retry_after_s=0.05)] * 60
        assert rewards(oracle.score(SAMPLES)) == LENGTHS

    def test_a_restarted_server_goes_on_where_the_first_stopped(self, server, service):
        """It is cut off mid-stream; what it had answered is not asked again."""
        asked = threading.Event()
        service.script += [lambda _: None] * 20 + [lambda _: asked.set()]
        with RemoteOracle(server.address, patience_s=PATIENCE_S, in_flight=1) as oracle:
            future = oracle.submit(SAMPLES)
            assert asked.wait(PATIENCE_S)
            server.stop()
            with service.grpc(server.address):
                assert rewards(future.result(PATIENCE_S)) == LENGTHS
        assert 40 <= len(service.scored()) <= 42

    def test_patience_ends(self, caplog):
        with (
            RemoteOracle("127.0.0.1:1", patience_s=0.3) as oracle,
            pytest.raises(
                OracleUnavailable, match=r"no new reward for 0 s \(patience_s 0\.3; last:"
            ),
        ):
            oracle.score(SAMPLES)
        assert "Waiting for rewards of 127.0.0.1:1" in caplog.text

    def test_patience_begins_anew_with_every_reward(self, server, service, monkeypatch):
        """Each of 6 refusals takes the clock half of the patience further; together they are three times as long."""
        now_s = [0.0]
        monkeypatch.setattr(module, "monotonic", lambda: now_s[0])

        def refuse(_):
            now_s[0] += 5.0
            raise Overloaded("full")

        service.script += [refuse, refuse, lambda _: None] * 6
        with RemoteOracle(server.address, patience_s=12.0, timeout_s=11.0, in_flight=1) as oracle:
            assert rewards(oracle.score(SAMPLES[:6])) == LENGTHS[:6]
        assert now_s[0] == 60.0

    def test_a_closed_oracle_waits_no_longer(self, service):
        oracle = RemoteOracle("127.0.0.1:1", patience_s=1000.0)
        first, second = oracle.submit(SAMPLES), oracle.submit(SAMPLES)
        wait_until(first.running, "the first batch")
        oracle.close()
        for future in (first, second):
            with pytest.raises(CancelledError):
                future.result(PATIENCE_S)

    def test_the_description_is_waited_for(self, service, server):
        server.stop()
        with RemoteOracle(server.address, patience_s=PATIENCE_S) as oracle:
            later = threading.Timer(0.1, lambda: restarted.append(service.grpc(server.address)))
            restarted: list[GrpcStandIn] = []
            later.start()
            assert oracle.info().fingerprint == "sha256:one"
            later.join()
            restarted[0].stop()


class TestSwap:
    def test_it_is_noticed_between_batches(self, oracle, service, caplog):
        oracle.score(SAMPLES[:2])
        service.fingerprint = "sha256:two"
        oracle.score(SAMPLES[:2])
        assert oracle.fingerprint == "sha256:two"
        assert oracle.swaps == [("sha256:one", "sha256:two")]
        assert "sha256:two in the place of sha256:one" in caplog.text

    def test_it_is_noticed_since_a_checkpoint(self, oracle):
        oracle.fingerprint = "sha256:zero"
        oracle.score(SAMPLES[:1])
        assert oracle.swaps == [("sha256:zero", "sha256:one")]

    def test_it_can_be_refused(self, server, service):
        with RemoteOracle(server.address, on_swap="refuse") as oracle:
            oracle.score(SAMPLES[:1])
            service.fingerprint = "sha256:two"
            with pytest.raises(SoupSwapped, match=r"scored with sha256:two.*came from sha256:one"):
                oracle.score(SAMPLES[:1])
            assert oracle.fingerprint == "sha256:one"

    def test_a_batch_is_of_one_reward_model(self, oracle, service):
        """Scores given before the swap are asked for again."""

        def swap(stand_in):
            stand_in.fingerprint = "sha256:two"
            stand_in.result = lambda sample: doubled(StandIn.result(stand_in, sample))

        def doubled(result):
            scores = tuple(replace(score, reward=2 * score.reward) for score in result.scores)
            return replace(result, scores=scores)

        service.script += [lambda _: None] * 10 + [swap]
        assert rewards(oracle.score(SAMPLES)) == [2 * length for length in LENGTHS]
        assert oracle.swaps == []
        assert oracle.fingerprint == "sha256:two"


TEXTS = tuple(
    Sample(prompt=f"Question {n}?", context=("Passage.",), responses=(f"Answer {n}. And more.",))
    for n in range(300)
)


@pytest.fixture(scope="module")
def expected() -> list[float]:
    """Rewards of the stub, which are a hash of the text: what is lost or exchanged shows."""
    with open_doors() as doors:
        scored = doors.call(doors.scorer.score(ScoreRequest(samples=TEXTS, uncertainty=True)))
    return [result.scores[0].reward for result in scored.results]


class TestARealServer:
    @pytest.mark.slow
    def test_killed_and_started_again(self, expected):
        """Both doors at once."""
        with serving() as first:
            ports = ("--grpc-port", str(first.grpc_port), "--http-port", str(first.http_port))
            with (
                RemoteOracle(first.target, patience_s=90) as streamed,
                RemoteOracle(first.url, patience_s=90) as posted,
            ):
                oracles = (streamed, posted)
                assert [rewards(one.score(TEXTS[:1])) for one in oracles] == [expected[:1]] * 2
                futures = [one.submit(TEXTS) for one in oracles]
                first.process.kill()
                first.process.wait()
                with serving("stub", *ports):
                    assert [rewards(one.result(90)) for one in futures] == [expected] * 2
                assert [one.swaps for one in oracles] == [[], []]

    @pytest.mark.parametrize("door", ["grpc", "http"])
    def test_full_and_slow(self, door, expected):
        """Room for one, 30 guests, and a device held back at first: 503 with Retry-After."""
        with open_doors(max_concurrent_requests=1, max_client_batch_size=1) as doors:
            doors.gate.hold()
            url = doors.target if door == "grpc" else doors.url
            with RemoteOracle(url, patience_s=60, in_flight=4) as oracle:
                future = oracle.submit(TEXTS[:30])
                wait_until(lambda: bool(doors.counts().errors.get("overloaded")), "a refusal")
                doors.gate.open()
                assert rewards(future.result(60)) == expected[:30]
