"""Real questions for tests, where they are at hand; they are too large and too many-licensed to ship.

A directory that holds `qa_feedback/` is looked for at $TUREEN_DATA, in the checkout's own data/, and
in a data/ folder beside the checkout.
"""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REASON = "no qa_feedback/ in $TUREEN_DATA, data/ or beside the checkout"


def data_directory() -> Path | None:
    named = os.environ.get("TUREEN_DATA")
    places = [Path(named)] if named else []
    places += [ROOT / "data", *sorted(ROOT.parent.glob("*/data"))]
    return next((p for p in places if (p / "qa_feedback/dev_feedback.jsonl.gz").is_file()), None)


def qa_feedback_records(count: int) -> Iterator[dict]:
    """The first `count` annotated questions: question, passages, four predictions."""
    directory = data_directory()
    assert directory is not None, REASON
    path = directory / "qa_feedback/dev_feedback.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(count), lines, strict=False):
            yield json.loads(line)
