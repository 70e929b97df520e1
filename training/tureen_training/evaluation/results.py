"""Scoring that can be stopped and taken up again: one line of JSON for every example that is through."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tureen.contracts import ErrorInfo
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import Outcome, Reading
from tureen_training.evaluation.scorers import Scorer
from tureen_training.journal import Record, journal
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
def _store(
    out: Path | None, fingerprint: str
) -> Iterator[tuple[dict[str, Outcome], Callable[[str, str, Outcome], None]]]:
    if out is None:
        yield {}, lambda key, prompt_id, outcome: None
        return
    path = out / FILE
    with journal(path) as (records, write):
        known = _known(records, path, fingerprint)
        if not records:
            write({"fingerprint": fingerprint})
        yield known, lambda key, prompt_id, outcome: write(_record(key, prompt_id, outcome))


def _known(records: Sequence[Record], path: Path, fingerprint: str) -> dict[str, Outcome]:
    """The outcomes of a file that begins with the fingerprint of the model that gave them."""
    known: dict[str, Outcome] = {}
    made_by = fingerprint
    for number, record in enumerate(records, start=1):
        try:
            if number == 1:
                made_by = record["fingerprint"]
            else:
                known[record["key"]] = _outcome(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no result ({error}); remove the file") from None
        if made_by != fingerprint:
            raise ValueError(
                f"{path} has results of the model {made_by}, this one is {fingerprint}; "
                "give another directory with --out, or remove the file"
            )
    return known


def _record(key: str, prompt_id: str, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ErrorInfo):
        return {"key": key, "prompt_id": prompt_id, "error": dataclasses.asdict(outcome)}
    readings = [reading.to_json() for reading in outcome]
    return {"key": key, "prompt_id": prompt_id, "responses": readings}


def _outcome(record: dict[str, Any]) -> Outcome:
    if "error" in record:
        return ErrorInfo(**record["error"])
    return tuple(map(Reading.from_json, record["responses"]))
