"""Spans as an operator finds them in their collector."""

import asyncio
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import httpx2
import pytest
from doors import OpenDoors, open_doors
from engine_fakes import wait_until
from server_process import serving

from tureen import RewardClient, Sample
from tureen.client.grpc import GrpcRewardClient
from tureen.client.trace_context import trace_context
from tureen.config import Config
from tureen.engine.caller import CALLER
from tureen.errors import InputTooLong
from tureen.transports.tracing import Tracing, tracing_of

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra: tureen[otel]")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # of the W3C's own example
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BODY = {"samples": [{"prompt": "2+2?", "responses": ["4", "five"]}]}


class Traced:
    """A server whose spans are kept in memory."""

    def __init__(self, doors: OpenDoors, provider, exporter) -> None:
        self.doors, self.provider, self._exporter = doors, provider, exporter

    def spans(self, root: str, count: int = 1) -> list:
        """All spans so far, after `count` of that name have ended: they end after the answer left."""
        wait_until(
            lambda: sum(one.name == root for one in self._exporter.get_finished_spans()) >= count,
            f"the span {root!r}",
        )
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced() -> Iterator[Traced]:
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with open_doors() as doors:
        doors.admission.tracing = Tracing(provider)
        yield Traced(doors, provider, exporter)


def named(spans: list, name: str) -> list:
    return [one for one in spans if one.name == name]


def test_a_request_over_http_is_a_span_with_its_steps_under_the_callers(traced):
    headers = {"traceparent": TRACEPARENT, "x-request-id": "run-7/step-3"}
    before_ns = time.time_ns()
    answer = httpx2.post(f"{traced.doors.url}/v1/score", json=BODY, headers=headers).json()
    spans = traced.spans("http score")
    [root] = named(spans, "http score")
    assert root.kind is SpanKind.SERVER
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    rewards = [score["reward"] for score in answer["results"][0]["scores"]]
    expected = {
        "tureen.request_id": "run-7/step-3",
        "tureen.client": "anonymous",
        "tureen.code": "ok",
        "tureen.model": "stub",
        "tureen.fingerprint": answer["fingerprint"],
        "tureen.soup": "uniform:3",
        "tureen.samples": 1,
        "tureen.responses": 2,
        "tureen.unscorable": 0,
        "tureen.rewards": tuple(rewards),
        "tureen.reward.mean": pytest.approx(sum(rewards) / 2),
    }
    assert {key: root.attributes[key] for key in expected} == expected
    assert {one.name for one in spans} == {"http score", "tokenize", "queue", "forward"}
    for one in spans:
        assert one.context.trace_id == root.context.trace_id
        if one is not root:
            assert one.parent.span_id == root.context.span_id
        assert before_ns - 1_000_000 <= one.start_time <= one.end_time <= time.time_ns()
    [tokenize], [queue] = named(spans, "tokenize"), named(spans, "queue")
    assert queue.attributes["tureen.lane"] == "interactive"
    assert tokenize.start_time <= queue.start_time
    assert sum(one.attributes["tureen.windows"] for one in named(spans, "forward")) == 2


def test_over_grpc_it_is_the_same(traced):
    from opentelemetry.trace import use_span

    tracer = traced.provider.get_tracer("a trainer")
    with tracer.start_as_current_span("rollout") as rollout, use_span(rollout):
        assert trace_context()["traceparent"].split("-")[2] == f"{rollout.context.span_id:016x}"
        with GrpcRewardClient(traced.doors.target) as client:
            [score] = client.score("2+2?", ["4"])
    [root] = named(traced.spans("grpc score"), "grpc score")
    assert root.parent.span_id == rollout.context.span_id
    assert root.attributes["tureen.rewards"] == (score.reward,)


def test_our_http_client_sends_its_trace_along_and_a_repeat_needs_no_device(traced):
    tracer = traced.provider.get_tracer("a trainer")
    with RewardClient(traced.doors.url) as client:
        client.score("2+2?", ["4"])
        with tracer.start_as_current_span("rollout") as rollout:
            client.score("2+2?", ["4"])
    spans = traced.spans("http score", 2)
    first, second = named(spans, "http score")
    assert first.parent is None
    assert second.parent.span_id == rollout.context.span_id
    assert [len(named(spans, step)) for step in ("tokenize", "queue", "forward")] == [2, 1, 1]


def test_each_message_of_a_stream_has_a_span(traced):
    samples = [Sample(id=str(n), prompt="2+2?", responses=(f"{n}",)) for n in range(3)]
    with GrpcRewardClient(traced.doors.target) as client:
        results = [result for _, result in client.stream(samples)]
    roots = named(traced.spans("grpc stream", 3), "grpc stream")
    told = sorted(reward for root in roots for reward in root.attributes["tureen.rewards"])
    assert told == sorted(one.scores[0].reward for one in results if one.scores)


def test_a_callers_mistake_is_named_but_is_no_fault(traced):
    with RewardClient(traced.doors.url) as client, pytest.raises(InputTooLong):
        client.score("?", ["too long " * 1000])
    [root] = named(traced.spans("http score"), "http score")
    assert root.attributes["error.type"] == "input_too_long"
    assert root.status.status_code is StatusCode.UNSET


def test_a_fault_of_ours_marks_the_span(traced):
    async def fail(*_, **__):
        raise RuntimeError("planted")

    traced.doors.scorer.score = fail
    assert httpx2.post(f"{traced.doors.url}/v1/score", json=BODY).status_code == 500
    [root] = named(traced.spans("http score"), "http score")
    assert root.attributes["tureen.code"] == "backend_failure"
    assert root.status.status_code is StatusCode.ERROR


def test_a_caller_who_samples_nothing_is_not_traced(traced):
    headers = {"traceparent": TRACEPARENT[:-2] + "00"}
    httpx2.post(f"{traced.doors.url}/v1/score", json=BODY, headers=headers)
    httpx2.post(f"{traced.doors.url}/v1/rank", json={"prompt": "?", "responses": ["a", "b"]})
    assert not named(traced.spans("http rank"), "http score")


def test_nothing_is_traced_unless_an_endpoint_is_named(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert tracing_of(Config()) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9")
    tracing = tracing_of(Config())
    assert tracing is not None
    tracing.close()


def test_without_a_span_of_its_own_a_client_sends_no_trace():
    assert trace_context() == {}


def test_outside_a_request_nobody_asks():
    assert asyncio.run(_caller()) is None


async def _caller():
    return CALLER.get()


class Collector:
    """OTLP over gRPC, as far as it takes to count spans."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc

        self.names: list[str] = []
        self.services: set[str] = set()
        collector = self

        class Servicer(pb_grpc.TraceServiceServicer):
            def Export(self, request, context):
                for resource in request.resource_spans:
                    for attribute in resource.resource.attributes:
                        if attribute.key == "service.name":
                            collector.services.add(attribute.value.string_value)
                    for scope in resource.scope_spans:
                        collector.names += [span.name for span in scope.spans]
                return pb.ExportTraceServiceResponse()

        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        pb_grpc.add_TraceServiceServicer_to_server(Servicer(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")


def test_a_real_server_sends_its_spans_to_a_collector_before_it_leaves():
    collector = Collector()
    collector.server.start()
    try:
        with serving("stub", "--otlp-endpoint", f"http://127.0.0.1:{collector.port}") as server:
            httpx2.post(f"{server.url}/v1/score", json=BODY).raise_for_status()
            assert server.stop() == 0
    finally:
        collector.server.stop(None).wait()
    assert sorted(collector.names) == ["forward", "http score", "queue", "tokenize"]
    assert collector.services == {"tureen"}
