"""OpenTelemetry: a span for each request, with the engine's steps under it.

Off unless an endpoint is named, by --otlp-endpoint or OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT; the
extra `otel` is needed only then. Everything else is OpenTelemetry's own to set: OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_PROTOCOL (grpc unless it says http/protobuf), headers,
certificates.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from tureen._version import __version__
from tureen.config import Config
from tureen.engine.caller import Caller
from tureen.engine.tracing import Attributes
from tureen.errors import ERRORS, MissingExtra

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FLUSH_S = 2.0  # for the last spans, when the server leaves


def tracing_of(config: Config) -> Tracing | None:
    """What the settings and the environment ask for.

    Raises:
        MissingExtra: an endpoint is named and OpenTelemetry is not installed.
    """
    named = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    )
    if config.otlp_endpoint is None and not named:
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(config.otlp_endpoint)
    except ImportError as error:
        raise MissingExtra("Tracing", "otel") from error
    name = os.environ.get("OTEL_SERVICE_NAME", "tureen")
    provider = TracerProvider(
        resource=Resource.create({"service.name": name, "service.version": __version__}),
        shutdown_on_exit=False,  # `close` does it, and waits no longer than it says
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _exporter(endpoint: str | None) -> Any:
    """endpoint: None leaves it to the environment."""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint and endpoint.rstrip("/") + "/v1/traces")
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
        OTLPSpanExporter as GrpcSpanExporter,
    )

    return GrpcSpanExporter(endpoint)


class Tracing:
    """Begins traces; one for the process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("tureen", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, door: str, route: str, caller: Caller) -> RequestTrace:
        """The span of a request, a child of the caller's where the request names one."""
        from opentelemetry.trace import SpanKind

        span = self._tracer.start_span(
            f"{door} {route}",
            context=self._propagator.extract(caller.carrier),
            kind=SpanKind.SERVER,
            attributes={
                "tureen.door": door,
                "tureen.route": route,
                "tureen.request_id": caller.request_id,
            },
        )
        return RequestTrace(self._tracer, span)

    def close(self) -> None:
        """Sends what was traced last; blocks, FLUSH_S at most: a collector may be gone."""
        # OpenTelemetry's own time limits do not count the retries of its exporters.
        last = threading.Thread(target=self._provider.shutdown, name="tureen-spans", daemon=True)
        last.start()
        last.join(FLUSH_S)


class RequestTrace:
    """`engine.tracing.Trace` of OpenTelemetry."""

    def __init__(self, tracer: Any, span: Any) -> None:
        from opentelemetry.trace import format_trace_id, set_span_in_context

        self._tracer, self._span = tracer, span
        self._context = set_span_in_context(span)
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self.recording: bool = span.is_recording()
        self.trace_id = format_trace_id(span.get_span_context().trace_id)

    def step(self, name: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        self._tracer.start_span(
            name,
            context=self._context,
            start_time=start_ns + self._epoch_ns,
            attributes=attributes,
        ).end(end_ns + self._epoch_ns)

    def describe(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def end(self, client: str, code: str) -> None:
        """code: of the answer, "ok" or that of its error; only a fault of ours marks the span."""
        self.describe({"tureen.client": client, "tureen.code": code})
        if code in ERRORS:
            self.describe({"error.type": code})
            if ERRORS[code].http_status >= 500:
                from opentelemetry.trace import StatusCode

                self._span.set_status(StatusCode.ERROR, code)
        self._span.end()
