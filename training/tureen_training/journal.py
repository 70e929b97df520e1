"""Lines of JSON that a stopped run is taken up from: whole lines count, a line that a kill broke off does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@contextmanager
def journal(path: Path) -> Iterator[tuple[list[Record], Callable[[Record], None]]]:
    """What the file holds, and a function that adds a record to it and to the disk.

    Raises:
        ValueError: a whole line that is no JSON object.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known, whole = _read(path) if path.is_file() else ([], 0)
    with path.open("r+b" if path.is_file() else "wb") as file:
        file.seek(whole)
        file.truncate()

        def write(record: Record) -> None:
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            file.flush()

        yield known, write


def _read(path: Path) -> tuple[list[Record], int]:
    """The records of a file, and where its last whole line ends."""
    records: list[Record] = []
    whole = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                break
            try:
                record = json.loads(raw)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON ({error}); remove the file") from None
            if not isinstance(record, dict):
                raise ValueError(f"{path}:{number}: no JSON object; remove the file")
            records.append(record)
            whole += len(raw)
    return records, whole
