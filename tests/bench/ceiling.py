"""What the backend does when nobody is in its way: perfect batches, and nothing timed but them.

Every window of a round waits at once, so the queue's own rule forms batches it never could under load;
they are sorted by length, packed to the server's limits and already collated.

    python -m bench.ceiling MODEL [--options JSON]    (of `load_model`)

A line of JSON on stdin, a list of samples, is answered by `perfect`'s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tureen import Sample
from tureen.engine.limits import EngineLimits
from tureen.engine.loading import load_model
from tureen.engine.queue import Entry, Queue
from tureen.engine.served import ServedModel
from tureen.text.batch import Batch, collate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("--options", default="{}", help="JSON, for load_model")
    args = parser.parse_args()
    model = load_model(args.model, **json.loads(args.options))
    for line in sys.stdin:
        print(json.dumps(perfect(model, _samples(json.loads(line)))), flush=True)


def perfect(model: ServedModel, samples: Sequence[Sample]) -> dict[str, float]:
    """The faster of one batch after the other, and as many at once as the server runs."""
    batches = packed(model, samples)
    streams = model.backend.info.streams
    took_s = {width: _seconds(model, batches, width) for width in {1, streams}}
    best = min(took_s, key=lambda width: took_s[width])
    return {
        "samples_per_s": len(samples) / took_s[best],
        "batches_at_once": best,
        "seconds_one_at_a_time": took_s[1],
        "seconds_at_once": took_s[streams],
        "tokens": sum(int(batch.attention_mask.sum()) for batch in batches),
        "padded_tokens": sum(batch.padded_tokens for batch in batches),
    }


def _seconds(model: ServedModel, batches: Sequence[Batch], at_once: int) -> float:
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(model.backend.forward, batches[: 2 * at_once]))  # pays for the buffers
        started_s = time.perf_counter()
        list(threads.map(model.backend.forward, batches))
        return time.perf_counter() - started_s


def packed(model: ServedModel, samples: Sequence[Sample]) -> list[Batch]:
    limits = EngineLimits().batch_limits(model.backend.info.batches)
    queue = Queue(
        max_batch_tokens=limits.max_batch_tokens,
        max_batch_requests=limits.max_batch_requests,
        overhead_tokens=limits.overhead_tokens,
        packs=model.backend.info.packs,
    )
    granularities = {head.granularity for head in model.heads}
    for sample in samples:
        for encoded in model.encoder.encode(sample, granularities):
            for window in encoded.windows:
                queue.append(Entry(window))
    batches = []
    while len(queue):
        entries = queue.next_batch(0).entries
        batches.append(collate([entry.window for entry in entries], model.pad_id))
    return batches


def as_json(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [
        {"prompt": sample.prompt, "context": sample.context, "responses": sample.responses}
        for sample in samples
    ]


def _samples(given: list[dict[str, Any]]) -> list[Sample]:
    return [
        Sample(
            prompt=one["prompt"],
            context=tuple(one["context"]),
            responses=tuple(one["responses"]),
        )
        for one in given
    ]


if __name__ == "__main__":
    main()
