"""Both doors put a `Caller` in place for every request, and answer with its id."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from tureen.engine.caller import CALLER, Caller

REQUEST_ID = "x-request-id"
CARRIER = ("traceparent", "tracestate")
"""Headers of the W3C trace context."""

_draw = random.Random()
_USABLE_ID = re.compile(r"[!-~]{1,128}")


def enter(headers: Mapping[str, str]) -> Caller:
    """The caller of a request with these headers (or metadata), in place for the running task.

    An id that is missing, longer than 128 characters or not printable ASCII is replaced: it
    will stand in logs.
    """
    given = headers.get(REQUEST_ID, "")
    caller = Caller(
        given if _USABLE_ID.fullmatch(given) else f"{_draw.getrandbits(128):032x}",
        carrier={name: headers[name] for name in CARRIER if name in headers},
    )
    CALLER.set(caller)
    return caller
