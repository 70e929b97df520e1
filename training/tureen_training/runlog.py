"""What a run leaves behind: metrics.jsonl, one line an event, and progress on the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

ItemT = TypeVar("ItemT")


def progress(items: Iterable[ItemT], what: str) -> Iterator[ItemT]:
    """A bar on a terminal; nothing in a log file, where a bar is noise."""
    yield from tqdm(items, desc=what, disable=not sys.stderr.isatty(), dynamic_ncols=True)


class RunLog:
    """Appends to `metrics.jsonl` of a run's directory and says the same on stderr."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._path.write_text("", encoding="utf-8")
        self._start = time.monotonic()

    def write(self, event: str, **figures: object) -> None:
        record = {
            "event": event,
            "elapsed_s": round(time.monotonic() - self._start, 1),
            **figures,
        }
        line = json.dumps(record, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the console line of a run
