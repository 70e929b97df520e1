"""Work that can be stopped and taken up again: one line of JSON for every item that is through."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tureen.contracts import ErrorInfo
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import Outcome, Reading
from tureen_training.evaluation.scorers import Scorer
from tureen_training.journal import Record, journal
from tureen_training.runlog import progress

OutcomeT = TypeVar("OutcomeT")


def outcomes(
    scorer: Scorer, examples: Sequence[Example], path: Path | None, *, members: bool = False
) -> list[Outcome]:
    """The outcome of every example, in order; arguments and errors as of `resumed` and `Scorer.score`."""

    def work(places: list[int]) -> Iterator[tuple[int, Outcome]]:
        for index, outcome in scorer.score([examples[place] for place in places], members=members):
            yield places[index], outcome

    return resumed(
        path,
        scorer.model.fingerprint,
        [key_of(dataclasses.asdict(example.sample())) for example in examples],
        work,
        write=lambda place, outcome: _record(examples[place].prompt_id, outcome),
        read=_outcome,
    )


def resumed(
    path: Path | None,
    made_by: str,
    keys: Sequence[str],
    work: Callable[[list[int]], Iterator[tuple[int, OutcomeT]]],
    *,
    write: Callable[[int, OutcomeT], Record | None],
    read: Callable[[Record], OutcomeT],
    what: str = "scoring",
) -> list[OutcomeT]:
    """What `work` gives of every item, in order; what a file has of an earlier run is not asked again.

    Args:
        path: a file that is read first and grows by what was missing in it; None keeps nothing.
        made_by: fingerprint of what gives the outcomes.
        keys: one an item, see `key_of`.
        work: places of items -> (place, outcome), in any order.
        write, read: an outcome at its place as JSON, and back; None is not kept and so asked again the next time.

    Raises:
        ValueError: the file was made by another, or is damaged.
    """
    with _store(path, made_by, read) as (known, keep):
        missing = [place for place, key in enumerate(keys) if key not in known]
        for place, outcome in progress(work(missing), what, total=len(missing)):
            known[keys[place]] = outcome
            if (record := write(place, outcome)) is not None:
                keep({"key": keys[place], **record})
        return [known[key] for key in keys]


def key_of(content: Any) -> str:
    """Hash of all that is asked: an item whose text has changed is another one. content: JSON."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _store(
    path: Path | None, made_by: str, read: Callable[[Record], OutcomeT]
) -> Iterator[tuple[dict[str, OutcomeT], Callable[[Record], None]]]:
    if path is None:
        yield {}, lambda record: None
        return
    with journal(path) as (records, write):
        known = _known(records, path, made_by, read)
        if not records:
            write({"fingerprint": made_by})
        yield known, write


def _known(
    records: Sequence[Record], path: Path, made_by: str, read: Callable[[Record], OutcomeT]
) -> dict[str, OutcomeT]:
    """The outcomes of a file that begins with the fingerprint of what gave them."""
    known: dict[str, OutcomeT] = {}
    before = made_by
    for number, record in enumerate(records, start=1):
        try:
            if number == 1:
                before = record["fingerprint"]
            else:
                known[record["key"]] = read(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no result ({error}); remove the file") from None
        if before != made_by:
            raise ValueError(
                f"{path} has results of the model {before}, this one is {made_by}; "
                "give another directory with --out, or remove the file"
            )
    return known


def _record(prompt_id: str, outcome: Outcome) -> Record:
    if isinstance(outcome, ErrorInfo):
        return {"prompt_id": prompt_id, "error": dataclasses.asdict(outcome)}
    return {"prompt_id": prompt_id, "responses": [reading.to_json() for reading in outcome]}


def _outcome(record: Record) -> Outcome:
    if "error" in record:
        return ErrorInfo(**record["error"])
    return tuple(map(Reading.from_json, record["responses"]))
