"""Soups of a pico model whose weights change while it is served."""

from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from held_engine import rewards, run

from tureen.contracts import Sample, ScoreRequest
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import SoupStore
from tureen.engine.soups import Soups, SoupSource
from tureen.model.directory import open_model

SAMPLES = tuple(
    Sample(prompt=f"Who painted it {i}?", responses=(f"Rembrandt did in {i}.", "I do not know."))
    for i in range(15)
)
EVEN = {"member-0": 0.5, "member-1": 0.5}
LEAN = {"member-0": 0.9, "member-1": 0.1}
FIRST = {"member-0": 1.0}


def source_of(directory: Path) -> SoupSource:
    def load(coefficients: Mapping[str, float] | None) -> ServedModel:
        return load_model(directory, backend="torch", coefficients=coefficients)

    return SoupSource(open_model(directory), load)


@asynccontextmanager
async def served(directory: Path, state: Path | None = None, source: SoupSource | None = None):
    """(scorer, soups) of a directory, as a server that starts."""
    source = source if source is not None else source_of(directory)
    assert source.origin is not None
    store = SoupStore(state, source.origin.fingerprint) if state is not None else None
    records = store.read() if store is not None else None
    model = source.restored(records) if records is not None else source.load(None)
    scorer = Scorer([model])
    await scorer.start()
    try:
        yield scorer, Soups(scorer, source, scorer.serving(), records=records, store=store)
    finally:
        await scorer.stop(0.01)


async def answer(scorer: Scorer, *samples: Sample) -> tuple[str, list]:
    response = await scorer.score(ScoreRequest(samples=samples or SAMPLES))
    return response.fingerprint, rewards(response)


def same(one: tuple[str, list], other: tuple[str, list]) -> bool:
    """The soup agrees, and its numbers but for the order of sums in another batch."""
    return one[0] == other[0] and one[1] == [pytest.approx(row, abs=1e-5) for row in other[1]]


def alone(directory: Path, coefficients: Mapping[str, float] | None) -> tuple[str, list]:
    """What a server that knows only this soup answers."""
    found: list[tuple[str, list]] = []

    async def ask() -> None:
        model = load_model(directory, backend="torch", coefficients=coefficients)
        scorer = Scorer([model])
        await scorer.start()
        found.append(await answer(scorer))
        await scorer.stop(0.01)

    run(ask)
    return found[0]
