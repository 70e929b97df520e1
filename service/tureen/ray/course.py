"""What the keeper tells the engines and the doors, and what it hears from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tureen.contracts import ModelList, ShadowReport
from tureen.engine.soup_store import SoupRecords

POLL_S = 10.0
"""How long a question that has no new answer is kept waiting for one."""


@dataclass(frozen=True, slots=True)
class Course:
    """What every engine is to do. version: rises with every change.

    records: None until the keeper has heard of a model without ingredients.
    held: fingerprints of the soups that are in memory, formed and checked.
    shadow: the one that is compared with the active one.
    """

    version: int
    records: SoupRecords | None = None
    held: tuple[str, ...] = ()
    shadow: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Of one engine. version: of the course that it has followed to the end.

    failed: why a soup cannot be formed there. shadow: what was compared, by fingerprint.
    """

    engine: str
    version: int
    active: str
    models: ModelList
    failed: dict[str, str] = field(default_factory=dict)
    shadow: tuple[str, ShadowReport] | None = None


@dataclass(frozen=True, slots=True)
class News:
    """For the doors. trouble: why no score can be expected."""

    models: ModelList | None
    trouble: str | None
