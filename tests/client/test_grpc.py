"""What is particular to gRPC: restarts, streams that break, statuses of others, the extra."""

from __future__ import annotations

import asyncio
import socketserver
import subprocess
import sys
import threading
from dataclasses import replace

import grpc
import pytest
from client.stand_in import GrpcStandIn, StandIn

from tureen import wire
from tureen.client import AsyncGrpcRewardClient, GrpcRewardClient, Retry
from tureen.client.grpc_stream import Tickets, Unnamed
from tureen.contracts import Sample, SampleResult, ScoreRequest, ScoreResponse
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InvalidRequest,
    PayloadTooLarge,
    ServiceUnreachable,
)
from tureen.v1 import reward_pb2

PATIENT = Retry(max_retries=50, backoff_s=0.05, max_backoff_s=0.2)
NEVER = Retry(max_retries=0)
SAMPLES = [Sample(prompt="p", responses=("x" * n,)) for n in range(1, 13)]


def rewards(streamed):
    results = dict(streamed)
    return [results[index].scores[0].reward for index in range(len(results))]


def test_a_restarted_server_is_found_again():
    service = StandIn()
    with service.grpc() as first, GrpcRewardClient(first.address, retry=PATIENT) as client:
        assert client.score("p", ["r"])[0].reward == 1.0
        first.stop()
        assert client.healthy() is False
        restart = threading.Timer(0.2, lambda: restarted.append(service.grpc(first.address)))
        restarted: list[GrpcStandIn] = []
        restart.start()
        assert client.score("p", ["rr"])[0].reward == 2.0
        restart.join()
        restarted[0].stop()


@pytest.mark.parametrize("kind", [GrpcRewardClient, AsyncGrpcRewardClient])
def test_a_stream_survives_a_restart(kind):
    """The server stops at the fifth question; what it had not answered is asked of its successor."""
    service = StandIn()
    servers = [service.grpc()]
    restarts: list[threading.Thread] = []

    def restart():
        servers[0].stop()
        servers.append(service.grpc(servers[0].address))

    def stop(service):
        restarts.append(threading.Thread(target=restart))
        restarts[0].start()
        raise ServiceUnreachable("the process ends")

    service.script += [lambda service: None] * 4 + [stop]
    client = kind(servers[0].address, retry=PATIENT)
    if kind is GrpcRewardClient:
        streamed = list(client.stream(SAMPLES, in_flight=3))
        client.close()
    else:

        async def collect():
            async with client:
                return [pair async for pair in client.stream(SAMPLES, in_flight=3)]

        streamed = asyncio.run(collect())
    restarts[0].join()
    servers[1].stop()
    assert rewards(streamed) == list(range(1, 13))


class TestAStreamThatAnswersNobody:
    """Something too large is answered without an id; those who wait ask by calls of their own."""

    @pytest.fixture
    def server(self, monkeypatch):
        def nobody(self, request_iterator, context):
            for _ in request_iterator:
                error = PayloadTooLarge("too large").info()
                results = (SampleResult(error=error),)
                response = ScoreResponse(model="", fingerprint="", soup="", results=results)
                yield wire.to_proto(response)

        monkeypatch.setattr(GrpcStandIn, "ScoreStream", nobody)
        with StandIn().grpc() as server:
            yield server

    def test_waiting(self, server):
        with GrpcRewardClient(server.address) as client:
            assert rewards(client.stream(SAMPLES)) == list(range(1, 13))

    def test_awaiting(self, server):
        async def collect():
            async with AsyncGrpcRewardClient(server.address) as client:
                return [pair async for pair in client.stream(SAMPLES)]

        assert rewards(asyncio.run(collect())) == list(range(1, 13))


class TestADeafStream:
    """A stream that never answers is given up after timeout_s."""

    @pytest.fixture
    def server(self, monkeypatch):
        def deaf(self, request_iterator, context):
            for _ in request_iterator:
                pass
            return iter(())

        monkeypatch.setattr(GrpcStandIn, "ScoreStream", deaf)
        with StandIn().grpc() as server:
            yield server

    def test_waiting(self, server):
        with GrpcRewardClient(server.address, timeout_s=0.3, retry=NEVER) as client:
            [(_, result)] = client.stream(SAMPLES[:1])
        assert result.error is not None
        assert result.error.code == DeadlineExceeded.code

    def test_awaiting(self, server):
        async def collect():
            async with AsyncGrpcRewardClient(server.address, timeout_s=0.3, retry=NEVER) as client:
                return [pair async for pair in client.stream(SAMPLES[:1])]

        [(_, result)] = asyncio.run(collect())
        assert result.error is not None
        assert result.error.code == DeadlineExceeded.code


def test_a_stream_left_early_is_cancelled():
    cancelled = threading.Event()

    class Watching(GrpcStandIn):
        def ScoreStream(self, request_iterator, context):
            context.add_callback(cancelled.set)
            yield from super().ScoreStream(request_iterator, context)

    with Watching(StandIn(), "127.0.0.1:0") as server, GrpcRewardClient(server.address) as client:
        stream = client.stream(SAMPLES)
        next(stream)
        stream.close()
        assert cancelled.wait(10)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("UNAVAILABLE", ServiceUnreachable),
        ("RESOURCE_EXHAUSTED", PayloadTooLarge),
        ("UNIMPLEMENTED", InvalidRequest),
        ("UNKNOWN", BackendFailure),
    ],
)
def test_a_status_without_an_error_of_ours(monkeypatch, status, kind):
    def score(self, request, context):
        context.abort(grpc.StatusCode[status], "some proxy")

    monkeypatch.setattr(GrpcStandIn, "Score", score)
    with StandIn().grpc() as server, GrpcRewardClient(server.address, retry=NEVER) as client:
        with pytest.raises(kind, match=f"{status}: some proxy") as e:
            client.score("p", ["r"])
        assert type(e.value) is kind


def test_time_that_was_up_is_told_in_terms_of_timeout_s(monkeypatch):
    def score(self, request, context):
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "late")

    monkeypatch.setattr(GrpcStandIn, "Score", score)
    with (
        StandIn().grpc() as server,
        GrpcRewardClient(server.address, retry=NEVER) as client,
        pytest.raises(DeadlineExceeded) as e,
    ):
        client.score("p", ["r"])
    assert str(e.value).startswith(
        "No answer in time (DEADLINE_EXCEEDED: late); raise timeout_s or send less at once. (from"
    )


def test_an_answer_that_is_none(monkeypatch):
    """A model without limits does not fit the contract."""
    monkeypatch.setattr(GrpcStandIn, "GetModel", lambda *_: reward_pb2.ModelInfo(id="m"))
    with (
        StandIn().grpc() as server,
        GrpcRewardClient(server.address, retry=NEVER) as client,
        pytest.raises(BackendFailure, match="limits is missing"),
    ):
        client.model("m")


def test_messages_beyond_the_default_of_grpc():
    """grpc refuses answers of more than 4 MiB unless told otherwise."""
    service = StandIn()
    service.info = lambda: replace(StandIn.info(service), base="x" * (5 * 2**20))
    with service.grpc() as server, GrpcRewardClient(server.address) as client:
        assert len(client.model("length").base) == 5 * 2**20


@pytest.mark.parametrize("address", ["http://rm:8081", "https://rm:8081"])
def test_an_address_that_is_none(address):
    with pytest.raises(InvalidRequest, match=r"is no address .* http:// is for RewardClient"):
        GrpcRewardClient(address)


def test_a_port_that_speaks_http():
    class Door(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        with (
            GrpcRewardClient(address, retry=NEVER) as client,
            pytest.raises(ServiceUnreachable, match=f"RewardClient asks it: http://{address}"),
        ):
            client.models()
        server.shutdown()


def test_root_certificates_want_tls(tmp_path):
    with pytest.raises(InvalidRequest, match="need a grpcs:// address"):
        GrpcRewardClient("rm:8081", root_certificates=tmp_path / "ca.pem")


def test_a_scheme_is_welcome():
    with StandIn().grpc() as server, GrpcRewardClient(f"grpc://{server.address}") as client:
        assert client.ready()


@pytest.mark.parametrize("kind", ["GrpcRewardClient", "AsyncGrpcRewardClient"])
def test_without_grpc_the_extra_is_named(kind):
    code = (
        "import sys; sys.modules['grpc'] = None\n"
        "from tureen import client, errors\n"
        f"try: client.{kind}('rm:8081')\n"
        "except errors.MissingExtra as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install 'tureen[grpc]'")


class TestTickets:
    def test_ids_are_made_unique_and_traceable(self):
        tickets = Tickets()
        sample = Sample(id="q", prompt="p", responses=("r",))
        issued = [tickets.renamed(ScoreRequest(samples=(sample, sample))) for _ in range(2)]
        assert [[s.id for s in request.samples] for _, request in issued] == [
            ["0.0", "0.1"],
            ["1.0", "1.1"],
        ]

    def test_an_answer_finds_who_waits(self):
        loop = asyncio.new_event_loop()
        tickets, futures = Tickets(), [loop.create_future() for _ in range(3)]
        for ticket, future in zip("012", futures, strict=True):
            tickets.issue(ticket, future)
        tickets.withdraw("2")
        for ticket in ("2", "9", "1"):  # who left, who never was, who waits
            tickets.settle(self.answer(f"{ticket}.0"))
        assert [future.done() for future in futures] == [False, True, False]
        tickets.settle(self.answer(None))
        assert isinstance(futures[0].exception(), Unnamed)
        loop.close()

    def answer(self, sample_id: str | None) -> ScoreResponse:
        results = (SampleResult(id=sample_id),)
        return ScoreResponse(model="m", fingerprint="f", soup="s", results=results)
