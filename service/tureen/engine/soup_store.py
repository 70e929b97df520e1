"""What is remembered of a model's soups, so that a restart serves what was active before it.

One file a model, named by the fingerprint of the directory: another version of the model begins
anew. It is written before a change takes effect.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tureen.contracts import SoupEvent
from tureen.model.files import write_atomically
from tureen.model.manifest import ModelError
from tureen.model.schema import SchemaError, decode

FORMAT_VERSION = 1
EVENTS = 1000  # latest, that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    coefficients: dict[str, float]
    created_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupRecords:
    """path: what was active, one after the other, the last now; those rolled back from left it.

    soups: by fingerprint, all but that of the model's directory, with which `path` begins.
    """

    format_version: int = FORMAT_VERSION
    path: tuple[str, ...]
    soups: dict[str, Recorded] = field(default_factory=dict)
    history: tuple[SoupEvent, ...] = ()

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise SchemaError(f"format_version is {self.format_version}, not {FORMAT_VERSION}.")
        unknown = [one for one in self.path[1:] if one not in self.soups and one != self.path[0]]
        if not self.path or unknown:
            raise SchemaError(f"path is {self.path}; all but its beginning must be in soups.")

    @property
    def active(self) -> str:
        return self.path[-1]

    @property
    def previous(self) -> str | None:
        return self.path[-2] if len(self.path) > 1 else None

    def coefficients(self, fingerprint: str) -> dict[str, float] | None:
        """None is the model as its directory has it."""
        recorded = self.soups.get(fingerprint)
        return recorded.coefficients if recorded is not None else None

    def after(self, event: SoupEvent, **changes: object) -> SoupRecords:
        history = (*self.history, event)[-EVENTS:]
        return dataclasses.replace(self, history=history, **changes)  # pyright: ignore[reportArgumentType]


class SoupStore:
    """The file of one model.

    Args:
        directory: None is that of the user's state, by the XDG base directory specification.
        origin: fingerprint of the model's directory.
    """

    def __init__(self, directory: Path | None, origin: str) -> None:
        if directory is None:
            state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
            directory = Path(state) / "tureen"
        self._origin = origin
        self.file = directory / f"{origin.removeprefix('sha256:')}.json"

    def read(self) -> SoupRecords:
        """
        Raises:
            ModelError: the file is damaged, or cannot be read.
        """
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
            records = decode(SoupRecords, data)
            if records.path[0] != self._origin:
                raise SchemaError(f"path begins with {records.path[0]}, not {self._origin}.")
        except FileNotFoundError:
            return SoupRecords(path=(self._origin,))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{self.file}, which says what soup was active, cannot be used ({error}); restore "
                "it, or remove it to serve the model as its directory has it."
            ) from error
        return records

    def write(self, records: SoupRecords) -> None:
        """Raises OSError."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(records), indent=1, allow_nan=False)
        write_atomically(self.file, text + "\n")
