"""Which of several backends is the fastest here, by a short measurement."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from tureen.engine.backend import Backend
from tureen.text.batch import Batch

log = logging.getLogger(__name__)

BUDGET_S = 1.5
"""For all measurements; what runs when it is spent is finished."""

CLEARLY = 1.05
"""How much faster a later backend must be: a difference below is the noise of a busy machine."""

_ROUNDS = 5


def fastest(
    backends: Sequence[Backend], batch: Batch, clock: Callable[[], float] = time.monotonic
) -> Backend:
    """The fastest of them for this batch; the others are closed. Of equally fast ones the first.

    They take turns, so that a busy moment hits all, and the least time of each
    counts. The first round, which pays for buffers, does not, unless it has spent the budget.
    """
    least = [float("inf")] * len(backends)
    started = clock()
    for round_ in range(_ROUNDS + 1):
        for i, backend in enumerate(backends):
            before = clock()
            backend.forward(batch)
            least[i] = min(least[i], clock() - before)
        if clock() - started > BUDGET_S:
            break
        if not round_:
            least = [float("inf")] * len(backends)
    chosen = 0
    for i in range(1, len(backends)):
        if least[i] * CLEARLY < least[chosen]:
            chosen = i
    rates = ", ".join(
        f"{backend.info.name} {batch.padded_tokens / seconds:.0f}"
        for backend, seconds in zip(backends, least, strict=True)
    )
    log.info("backend auto: %s tokens/s; %s it is", rates, backends[chosen].info.name)
    for i, backend in enumerate(backends):
        if i != chosen:
            backend.close()
    return backends[chosen]
