"""Scoring that can be stopped and taken up again: one line of JSON for every example that is through."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tureen.contracts import ErrorInfo
from tureen.model.schema import decode
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import Outcome, Reading
from tureen_training.evaluation.scorers import Scorer
from tureen_training.runlog import progress

FILE = "results.jsonl"


def outcomes(scorer: Scorer, examples: Sequence[Example], out: Path | None) -> list[Outcome]:
    """The outcome of every example, in order.

    Args:
        out: directory whose results.jsonl is read first and grows by what was missing in it.
    Raises:
        ValueError: results.jsonl is of another model, or damaged.
    """
    keys = [key_of(example) for example in examples]
    with _store(out, scorer.model.fingerprint) as (known, write):
        missing = [place for place, key in enumerate(keys) if key not in known]
        wanted = [examples[place] for place in missing]
        for place, outcome in progress(scorer.score(wanted), "scoring", total=len(wanted)):
            key = keys[missing[place]]
            known[key] = outcome
            write(key, examples[missing[place]].prompt_id, outcome)
        return [known[key] for key in keys]


def key_of(example: Example) -> str:
    """Hash of all that is scored: an example whose text has changed is another one."""
    content = json.dumps(dataclasses.asdict(example.sample()), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@contextmanager
def _store(out: Path | None, fingerprint: str) -> Iterator[tuple[dict[str, Outcome], Any]]:
    if out is None:
        yield {}, lambda key, prompt_id, outcome: None
        return
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    known, whole = _read(path, fingerprint) if path.is_file() else ({}, 0)
    with path.open("r+b" if path.is_file() else "wb") as file:
        file.seek(whole)
        file.truncate()  # a line that a kill broke off

        def line(record: dict[str, Any]) -> None:
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            file.flush()

        if whole == 0:
            line({"fingerprint": fingerprint})
        yield known, lambda key, prompt_id, outcome: line(_record(key, prompt_id, outcome))


def _read(path: Path, fingerprint: str) -> tuple[dict[str, Outcome], int]:
    """The outcomes of a file, and where its last whole line ends."""
    known: dict[str, Outcome] = {}
    whole = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                break
            try:
                record = json.loads(raw)
                if number > 1:
                    known[record["key"]] = _outcome(record)
                made_by = fingerprint if number > 1 else record["fingerprint"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: no result ({error}); remove the file") from None
            if made_by != fingerprint:
                raise ValueError(
                    f"{path} has results of the model {made_by}, this one is {fingerprint}; "
                    "give another directory with --out, or remove the file"
                )
            whole += len(raw)
    return known, whole


def _record(key: str, prompt_id: str, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ErrorInfo):
        return {"key": key, "prompt_id": prompt_id, "error": dataclasses.asdict(outcome)}
    readings = [reading.to_json() for reading in outcome]
    return {"key": key, "prompt_id": prompt_id, "responses": readings}


def _outcome(record: dict[str, Any]) -> Outcome:
    if "error" in record:
        return decode(ErrorInfo, record["error"])
    return tuple(map(Reading.from_json, record["responses"]))
