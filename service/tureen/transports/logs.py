"""The log on stderr, for people or as one JSON object a line. Without user text, unless asked for."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from tureen.config import Config
from tureen.contracts import Sample
from tureen.engine.caller import CALLER

log = logging.getLogger("tureen")
_FIELDS = "tureen_fields"  # of a LogRecord


def configure(config: Config) -> None:
    """Takes over the process's log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else TextFormatter())
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # ours say the same, once


def say(*lines: str) -> None:
    """What a person at the terminal reads, as it is; where the log is JSON, lines of it.

    A log that cannot be written, on a full disk say, is no reason not to score, nor not to drain.
    """
    as_json = any(isinstance(one.formatter, JsonFormatter) for one in logging.getLogger().handlers)
    for line in lines:
        if as_json:
            log.info(line)
        else:
            with suppress(OSError):
                print(line, file=sys.stderr, flush=True)  # noqa: T201


def log_request(
    door: str, route: str, code: str, seconds: float, samples: Sequence[Sample] = ()
) -> None:
    """One line for one request, with the text of its samples where they are given."""
    fields: dict[str, Any] = {"door": door, "route": route, "code": code, "seconds": seconds}
    if samples:
        fields["samples"] = [dataclasses.asdict(sample) for sample in samples]
    log.info("request", extra={_FIELDS: fields})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Who asked, and what the line says beside its message."""
    found: dict[str, Any] = {}
    caller = CALLER.get()
    if caller is not None:
        found |= {"request_id": caller.request_id, "client": caller.client}
        if caller.trace is not None:
            found["trace_id"] = caller.trace.trace_id
    more: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return {**found, **more}


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, then fields such as request_id, exception last."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """A line for people; fields follow as name=value, values as JSON: no line break can be forged."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = _fields(record).items()
        return " ".join(
            [super().formatMessage(record)]
            + [f"{name}={orjson.dumps(value, default=str).decode()}" for name, value in fields]
        )
