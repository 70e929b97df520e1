"""Tiny QA-Feedback files: written here, so no test needs the data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

PASSAGE = [
    "Gull Point",
    "The lighthouse on Gull Point was built in 1871 by Anna Berg.",
    "It burned down in 1902 and was rebuilt two years later.",
    "Gulls nest on the cliffs below the tower from April to July.",
    "A small ferry crosses to the point twice a day in summer.",
]
FIRST = (
    "The lighthouse on Gull Point was built in 1888 by Anna Berg. "
    "Gulls nest on the cliffs below the tower from April to July."
)
CORRECTED = (
    "The lighthouse on Gull Point was built in 1871 by Anna Berg. "
    "It burned down in 1902 and was rebuilt two years later."
)


def feedback_record(number: int, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "question_id": f"q-{number:03d}",
        "question": f"Who built lighthouse number {number} on Gull Point?",
        "passages": [PASSAGE],
        "gold": CORRECTED,
        "prediction 1": FIRST,
        "prediction 2": "The lighthouse on Gull Point was built in 1871 by Anna Berg.",
        "prediction 3": "A small ferry crosses to the point twice a day in summer.",
        "prediction 4": CORRECTED,
        "feedback": {
            "errors": [
                {"error type": "Wrong-Grounding", "start": 42, "end": 46, "explanation": ""},
                {"error type": "Irrelevant", "start": 61, "end": 121, "explanation": ""},
            ],
            "missing-info": [{"error type": "Missing-Answer", "passage_id": 1, "sentence_id": [2]}],
            "corrected-prediction": CORRECTED,
        },
        "preference": [2, 1, 2, 1, 0, 2],
    }
    return record | changes


def reference_record(number: int, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "question_id": f"r-{number:03d}",
        "question": f"What happened to lighthouse number {number} on Gull Point?",
        "passages": [{"wikipage": PASSAGE[0], "content": "\n".join(PASSAGE)}],
        "answer": [CORRECTED],
        "text": "not read",
    }
    return record | changes


def write(path: Path, records: list[Any]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def directory(path: Path, questions: int = 40) -> Path:
    """A directory with the layout of the data."""
    path.mkdir(parents=True, exist_ok=True)
    write(path / "dev_feedback.jsonl.gz", [feedback_record(i) for i in range(questions)])
    write(path / "train_1k.jsonl.gz", [reference_record(i) for i in range(4)])
    return path
