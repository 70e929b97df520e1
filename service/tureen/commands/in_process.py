"""A scorer without a server, for the commands that score here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

from tureen.contracts import Sample
from tureen.engine.limits import EngineLimits
from tureen.engine.loading import BackendName, DtypeName, RedistributionName, load_model
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.errors import InvalidRequest
from tureen.transports.json_body import JsonBody
from tureen.usage import Parser, UsageError, device_name


def add_model_options(parser: Parser) -> None:
    parser.add_argument(
        "--backend",
        choices=get_args(BackendName),
        default="auto",
        help="what runs the model; auto takes an export where it is faster [default %(default)s]",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, tensorrt, cuda:N … [default %(default)s]",
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(DtypeName),
        default="float32",
        help="number format of the forward pass [default %(default)s]",
    )
    parser.add_argument(
        "--redistribute",
        choices=get_args(RedistributionName),
        default="none",
        help="spread values of the whole response over its sentences [default none]",
    )


def load(arguments: argparse.Namespace) -> ServedModel:
    try:
        device_name(arguments.device)  # the stub runs on none, and looks at no name
    except ValueError as error:
        raise UsageError(f"--device is {arguments.device!r}; {error}") from None
    return load_model(
        arguments.model,
        backend=arguments.backend,
        device=arguments.device,
        dtype=arguments.dtype,
        redistribute=arguments.redistribute,
    )


def read_samples(name: str) -> tuple[Sample, ...]:
    """One sample a line, as /v1/score takes it; - is stdin. Raises UsageError, with file and line."""
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    body = JsonBody(Sample)
    samples = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            samples.append(body.parse(line))
        except InvalidRequest as error:
            raise UsageError(f"{name}:{number}: {error.message}") from error
    if not samples:
        raise UsageError(f"{name} holds no sample: write one JSON object a line")
    return tuple(samples)


@asynccontextmanager
async def scoring(model: ServedModel, responses: int, *, remember: bool) -> AsyncIterator[Scorer]:
    """A started scorer that takes one request of so many responses.

    Raises UsageError when the model does not pass its start-up check.
    """
    most = max(1, responses)
    limits = EngineLimits(
        max_concurrent_requests=most,
        max_client_batch_size=most,
        cache_bytes=EngineLimits().cache_bytes if remember else 0,
    )
    scorer = Scorer([model], limits=limits)
    await scorer.start()
    try:
        ready, reason = scorer.ready()
        if not ready:
            raise UsageError(f"the model cannot be used: {reason}")
        yield scorer
    finally:
        await scorer.stop()
