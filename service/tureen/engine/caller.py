"""Who asks, while their request is answered: the name metrics and logs speak of, and its trace.

A door puts a `Caller` in place before anything else happens; whatever runs in that task, or in a
task it starts, finds it there. In process, without a door, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from tureen.contracts import Priority, Sample
from tureen.engine.quota import Quota
from tureen.engine.tracing import Trace

ANONYMOUS = "anonymous"
IN_PROCESS = "in_process"  # the route of what comes through no door


@dataclass(slots=True)
class Caller:
    """
    request_id: the caller's own, or made by the door. route: the door's name for what is asked.
    client: name of the key that was sent.
    lane: the best that it may have. quota: of its responses; None is no limit.
    carrier: headers of the W3C trace context that came with the request.
    trace: None unless the request is traced.
    samples: what was asked, for a log that was told to hold text.
    """

    request_id: str
    client: str = ANONYMOUS
    route: str = IN_PROCESS
    lane: Priority = Priority.INTERACTIVE
    quota: Quota | None = None
    carrier: Mapping[str, str] = field(default_factory=dict)
    trace: Trace | None = None
    samples: list[Sample] = field(default_factory=list)


CALLER: ContextVar[Caller | None] = ContextVar("tureen_caller", default=None)
