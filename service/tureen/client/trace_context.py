"""The caller's own trace goes along with a question, where they use OpenTelemetry; else nothing."""

from __future__ import annotations

import sys


def trace_context() -> dict[str, str]:
    """W3C `traceparent` (and `tracestate`) of the span under way; empty without one.

    OpenTelemetry is not imported here: who has a span has imported it.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
