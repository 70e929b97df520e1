"""Live soups: what is formed, refused, compared, swapped, rolled back, and remembered."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pico
import pytest
from held_engine import rewards, run

from tureen.contracts import Sample, ScoreRequest, SoupAction, SoupState
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.engine.soup_store import SoupStore
from tureen.engine.soups import Soups, SoupSource
from tureen.engine.stub_backend import stub_model
from tureen.errors import BackendFailure, IncompatibleSoup, InvalidRequest, UnknownSoup
from tureen.model.directory import open_model
from tureen.model.manifest import ModelError
from tureen.model.soup import make_soup

SAMPLES = tuple(
    Sample(prompt=f"Who painted it {i}?", responses=(f"Rembrandt did in {i}.", "I do not know."))
    for i in range(15)
)
EVEN = {"member-0": 0.5, "member-1": 0.5}
LEAN = {"member-0": 0.9, "member-1": 0.1}
FIRST = {"member-0": 1.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    return folder / "soup"


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


def test_coefficients_of_one_are_the_ingredient(directory: Path):
    """A soup of nothing but member-0 computes what member-0's own checkpoint computes."""
    _, weighed = alone(directory, FIRST)
    _, checkpoint = alone(directory.parent / "member-0", None)
    for one, other in zip(weighed, checkpoint, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_activate_answers_by_the_new_soup_and_rollback_by_the_old(directory: Path):
    before, after = alone(directory, None), alone(directory, LEAN)
    assert before[0] != after[0]

    async def test():
        async with served(directory) as (scorer, soups):
            assert same(await answer(scorer), before)
            made = await soups.create(LEAN, "ops")
            assert (made.state, made.fingerprint) == (SoupState.FORMING, after[0])
            assert made.coefficients == LEAN
            active = await soups.activate(made.fingerprint, "ops")
            assert active.state is SoupState.ACTIVE
            assert same(await answer(scorer), after)
            assert scorer.model().soup == "weighted:2"
            assert (await soups.list()).previous == before[0]
            back = await soups.rollback(None, "boss")
            assert (back.fingerprint, back.soup) == (before[0], "uniform:2")
            assert same(await answer(scorer), before)
            done = [(event.action, event.by) for event in (await soups.list()).history]
            assert done == [
                (SoupAction.CREATE, "ops"),
                (SoupAction.ACTIVATE, "ops"),
                (SoupAction.ROLLBACK, "boss"),
            ]
            with pytest.raises(UnknownSoup, match="nothing to return to"):
                await soups.rollback(None, "boss")

    run(test)


def test_a_rollback_names_what_it_leaves_or_returns_to(directory: Path):
    async def test():
        async with served(directory) as (_, soups):
            origin = (await soups.list()).active
            lean = (await soups.create(LEAN, "ops")).fingerprint
            first = (await soups.create(FIRST, "ops")).fingerprint
            await soups.activate(lean, "ops")
            with pytest.raises(InvalidRequest, match="nor was it before"):
                await soups.rollback(first, "ops")
            assert (await soups.rollback(origin, "ops")).fingerprint == origin
            await soups.activate(lean, "ops")
            assert (await soups.rollback(lean, "ops")).fingerprint == origin

    run(test)


def test_the_same_coefficients_are_the_same_soup(directory: Path):
    async def test():
        async with served(directory) as (_, soups):
            origin = (await soups.list()).active
            assert (await soups.create(EVEN, "ops")).fingerprint == origin
            one = await soups.create(LEAN, "ops")
            assert (await soups.create(LEAN, "ops")).fingerprint == one.fingerprint
            assert len((await soups.list()).soups) == 2

    run(test)


@pytest.mark.parametrize(
    ("coefficients", "error", "says"),
    [
        ({"member-0": 0.5, "stranger": 0.5}, IncompatibleSoup, "'stranger' is no ingredient"),
        ({"member-0": 0.5}, InvalidRequest, "add up to"),
        ({"member-0": 1.5, "member-1": -0.5}, InvalidRequest, "at least 0"),
        ({}, InvalidRequest, "add up to"),
    ],
)
def test_what_cannot_be_averaged_is_refused(directory: Path, coefficients, error, says):
    async def test():
        async with served(directory) as (_, soups):
            with pytest.raises(error, match=says):
                await soups.create(coefficients, "ops")
            for change in (soups.activate, soups.shadow, soups.rollback):
                with pytest.raises(UnknownSoup):
                    await change("sha256:0", "ops")
            assert (await soups.list()).history == ()

    run(test)


def test_models_without_ingredients_have_no_soups(directory: Path):
    async def test():
        single = directory.parent / "member-0"
        async with served(single) as (_, soups):
            with pytest.raises(IncompatibleSoup, match="nothing to weigh"):
                await soups.create(FIRST, "ops")
        scorer = Scorer([stub_model()])
        await scorer.start()
        soups = Soups(scorer, SoupSource(None, lambda _: stub_model()), scorer.serving())
        assert [one.state for one in (await soups.list()).soups] == [SoupState.ACTIVE]
        with pytest.raises(IncompatibleSoup, match="no ingredients"):
            await soups.create(FIRST, "ops")
        await scorer.stop(0.01)

    run(test)


def test_an_obstacle_is_told_at_once(directory: Path):
    async def test():
        source = dataclasses.replace(source_of(directory), obstacle="no torch here")
        async with served(directory, source=source) as (_, soups):
            with pytest.raises(IncompatibleSoup, match="no torch here"):
                await soups.create(LEAN, "ops")

    run(test)


def test_a_soup_that_fails_its_check_cannot_be_activated(directory: Path):
    healthy = source_of(directory)

    def load(coefficients: Mapping[str, float] | None) -> ServedModel:
        model = healthy.load(coefficients)
        if coefficients is not None:
            forward = model.backend.forward
            model.backend.forward = lambda batch: forward(batch) * float("nan")
        return model

    async def test():
        source = dataclasses.replace(healthy, load=load)
        async with served(directory, source=source) as (scorer, soups):
            before = await answer(scorer)
            made = await soups.create(LEAN, "ops")
            for change in (soups.activate, soups.shadow):
                with pytest.raises(IncompatibleSoup, match="not finite"):
                    await change(made.fingerprint, "ops")
            info = soups.info(made.fingerprint)
            assert info.state is SoupState.FAILED
            assert info.trouble is not None
            assert "not finite" in info.trouble
            assert same(await answer(scorer), before)

    run(test)


def test_a_shadow_is_compared_and_answers_nobody(directory: Path):
    """Figures against scipy's, and against the rewards of both soups asked by themselves."""
    stats = pytest.importorskip("scipy.stats")
    old, new = (alone(directory, one)[1] for one in (None, LEAN))
    flat_old, flat_new = ([reward for row in rows for reward in row] for rows in (old, new))

    async def test():
        async with served(directory) as (scorer, soups):
            before = await answer(scorer)
            made = await soups.create(LEAN, "ops")
            shadowed = await soups.shadow(made.fingerprint, "ops")
            assert shadowed.state is SoupState.SHADOW
            assert same(await answer(scorer), before)
            own = ScoreRequest(samples=SAMPLES[:1], weights={"preference": 1.0})
            await scorer.score(own)
            async with asyncio.timeout(30):
                while (report := soups.info(made.fingerprint).shadow) is None or (
                    report.responses < len(flat_old)
                ):
                    await asyncio.sleep(0.01)
            assert (report.responses, report.skipped, report.failed) == (30, 2, 0)
            expected = stats.spearmanr(flat_old, flat_new).statistic
            assert report.rank_correlation == pytest.approx(expected, abs=1e-6)
            largest = max(abs(a - b) for a, b in zip(flat_old, flat_new, strict=True))
            assert report.largest_change == pytest.approx(largest, abs=1e-5)
            assert report.drift_psi is not None
            assert report.drift_psi >= 0
            counted = scorer.metrics.registry.get_sample_value(
                "tureen_reward_count", {"model": "soup"}
            )
            assert counted == 2 * len(flat_old) + 2  # what was answered, no more
            ended = await soups.shadow((await soups.list()).active, "ops")
            assert ended.state is SoupState.ACTIVE
            assert soups.info(made.fingerprint).state is SoupState.READY

    run(test)


def test_a_restart_serves_what_was_active(directory: Path, tmp_path: Path):
    async def test():
        async with served(directory, tmp_path) as (scorer, soups):
            origin = await answer(scorer)
            made = await soups.create(LEAN, "ops")
            await soups.activate(made.fingerprint, "ops")
            lean = await answer(scorer)
            listed = await soups.list()
        async with served(directory, tmp_path) as (scorer, soups):
            assert same(await answer(scorer), lean)
            again = await soups.list()
            assert again.history == listed.history
            assert (again.active, again.previous) == (lean[0], origin[0])
            states = {one.fingerprint: one.state for one in again.soups}
            assert states == {origin[0]: SoupState.STORED, lean[0]: SoupState.ACTIVE}
            await soups.rollback(None, "ops")
            assert same(await answer(scorer), origin)

    run(test)


def test_what_cannot_be_written_is_not_done(directory: Path, tmp_path: Path):
    async def test():
        (tmp_path / "file").write_text("")
        async with served(directory) as (scorer, soups):
            soups._store = SoupStore(tmp_path / "file", (await soups.list()).active)
            before = await answer(scorer)
            with pytest.raises(BackendFailure, match="nothing was changed"):
                await soups.create(LEAN, "ops")
            assert (await soups.list()).history == ()
            assert same(await answer(scorer), before)

    run(test)


@pytest.mark.parametrize("text", ["{", '{"path": []}', '{"path": ["sha256:other"]}'])
def test_a_damaged_record_stops_the_server(tmp_path: Path, text: str):
    store = SoupStore(tmp_path, "sha256:ab")
    assert store.file == tmp_path / "ab.json"
    assert store.read().path == ("sha256:ab",)
    store.file.write_text(text)
    with pytest.raises(ModelError, match="remove it"):
        store.read()
    store.write(SoupStore(tmp_path / "none", "sha256:ab").read())
    assert json.loads(store.file.read_text())["path"] == ["sha256:ab"]


def test_a_record_of_other_coefficients_is_not_served(directory: Path, tmp_path: Path):
    """It would answer by one fingerprint and be listed under another."""

    async def test():
        async with served(directory, tmp_path) as (_, soups):
            await soups.activate((await soups.create(LEAN, "ops")).fingerprint, "ops")
        (record,) = tmp_path.iterdir()
        record.write_text(
            record.read_text(encoding="utf-8").replace("0.9", "0.8").replace("0.1", "0.2")
        )
        with pytest.raises(ModelError, match="what is recorded of it makes sha256:"):
            async with served(directory, tmp_path):
                pass

    run(test)


def test_soups_that_are_not_needed_leave_the_memory(directory: Path):
    async def test():
        async with served(directory) as (scorer, soups):
            origin, made = (await soups.list()).active, []
            for share in (0.9, 0.8, 0.7, 0.6):
                coefficients = {"member-0": share, "member-1": 1 - share}
                made.append((await soups.create(coefficients, "ops")).fingerprint)
                await soups.activate(made[-1], "ops")
            states = [soups.info(one).state for one in (origin, *made)]
            assert states == [SoupState.STORED] * 2 + [SoupState.READY] * 2 + [SoupState.ACTIVE]
            await soups.activate(origin, "ops")  # is formed anew
            assert (await answer(scorer))[0] == origin

    run(test)


def test_what_a_change_waits_for_stays_in_memory(directory: Path):
    """Beside a shadow there is room for one more, and another soup is formed right behind it."""

    async def test():
        async with served(directory) as (scorer, soups):
            shadow, next_, last = [
                {"member-0": share, "member-1": 1 - share} for share in (0.9, 0.8, 0.7)
            ]
            await soups.shadow((await soups.create(shadow, "ops")).fingerprint, "ops")
            made = await soups.create(next_, "ops")
            await soups.create(last, "ops")
            await soups.activate(made.fingerprint, "ops")
            assert same(await answer(scorer), expected)
            assert scorer.ready() == (True, "ready")

    expected = alone(directory, {"member-0": 0.8, "member-1": 1 - 0.8})
    run(test)


def test_a_swap_under_load_loses_nothing_and_mixes_nothing(directory: Path):
    """Whatever is asked while soups change: every answer is wholly that of the soup it names."""
    expected = dict(alone(directory, one) for one in (None, LEAN, FIRST))
    seen: set[str] = set()

    async def test():
        async with served(directory) as (scorer, soups):
            swapping = True

            async def ask(client: int) -> int:
                count = 0
                while swapping:
                    place = (client + count) % len(SAMPLES)
                    fingerprint, given = await answer(scorer, SAMPLES[place])
                    assert given[0] == pytest.approx(expected[fingerprint][place], abs=1e-5)
                    seen.add(fingerprint)
                    count += 1
                return count

            clients = [asyncio.create_task(ask(client)) for client in range(8)]
            for coefficients in (LEAN, FIRST):
                made = await soups.create(coefficients, "ops")
                await soups.activate(made.fingerprint, "ops")
                await answer(scorer)
            await soups.rollback(None, "ops")
            await answer(scorer)
            swapping = False
            counts = await asyncio.gather(*clients)
            assert all(counts)

    run(test)
    assert seen == set(expected)
