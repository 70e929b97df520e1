"""Live soups: what is formed, refused, compared, swapped, and rolled back."""

import asyncio
import dataclasses
from pathlib import Path

import pytest
from held_engine import run
from live_soups import EVEN, FIRST, LEAN, SAMPLES, alone, answer, same, served, source_of

from tureen.contracts import ScoreRequest, SoupAction, SoupState
from tureen.engine.scorer import Scorer
from tureen.engine.soups import Soups, SoupSource
from tureen.engine.stub_backend import stub_model
from tureen.errors import IncompatibleSoup, InvalidRequest, UnknownSoup


def test_activate_answers_by_the_new_soup_and_rollback_by_the_old(soup_directory: Path):
    before, after = alone(soup_directory, None), alone(soup_directory, LEAN)
    assert before[0] != after[0]

    async def test():
        async with served(soup_directory) as (scorer, soups):
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


def test_a_rollback_names_what_it_leaves_or_returns_to(soup_directory: Path):
    async def test():
        async with served(soup_directory) as (_, soups):
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


def test_the_same_coefficients_are_the_same_soup(soup_directory: Path):
    async def test():
        async with served(soup_directory) as (_, soups):
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
def test_what_cannot_be_averaged_is_refused(soup_directory: Path, coefficients, error, says):
    async def test():
        async with served(soup_directory) as (_, soups):
            with pytest.raises(error, match=says):
                await soups.create(coefficients, "ops")
            for change in (soups.activate, soups.shadow, soups.rollback):
                with pytest.raises(UnknownSoup):
                    await change("sha256:0", "ops")
            assert (await soups.list()).history == ()

    run(test)


def test_models_without_ingredients_have_no_soups(soup_directory: Path):
    async def test():
        single = soup_directory.parent / "member-0"
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


def test_an_obstacle_is_told_at_once(soup_directory: Path):
    async def test():
        source = dataclasses.replace(source_of(soup_directory), obstacle="no torch here")
        async with served(soup_directory, source=source) as (_, soups):
            with pytest.raises(IncompatibleSoup, match="no torch here"):
                await soups.create(LEAN, "ops")

    run(test)


def test_a_shadow_is_compared_and_answers_nobody(soup_directory: Path):
    """Figures against scipy's, and against the rewards of both soups asked by themselves."""
    stats = pytest.importorskip("scipy.stats")
    old, new = (alone(soup_directory, one)[1] for one in (None, LEAN))
    flat_old, flat_new = ([reward for row in rows for reward in row] for rows in (old, new))

    async def test():
        async with served(soup_directory) as (scorer, soups):
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


def test_a_swap_under_load_loses_nothing_and_mixes_nothing(soup_directory: Path):
    """Whatever is asked while soups change: every answer is wholly that of the soup it names."""
    expected = dict(alone(soup_directory, one) for one in (None, LEAN, FIRST))
    seen: set[str] = set()

    async def test():
        async with served(soup_directory) as (scorer, soups):
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
