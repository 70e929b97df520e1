"""What soups are made of, and which of them stay in memory."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from held_engine import run
from live_soups import FIRST, LEAN, alone, answer, same, served, source_of

from tureen.contracts import SoupState
from tureen.engine.served import ServedModel
from tureen.errors import IncompatibleSoup


def test_coefficients_of_one_are_the_ingredient(soup_directory: Path):
    """A soup of nothing but member-0 computes what member-0's own checkpoint computes."""
    _, weighed = alone(soup_directory, FIRST)
    _, checkpoint = alone(soup_directory.parent / "member-0", None)
    for one, other in zip(weighed, checkpoint, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_soup_that_fails_its_check_cannot_be_activated(soup_directory: Path):
    healthy = source_of(soup_directory)

    def load(coefficients: Mapping[str, float] | None) -> ServedModel:
        model = healthy.load(coefficients)
        if coefficients is not None:
            forward = model.backend.forward
            model.backend.forward = lambda batch: forward(batch) * float("nan")
        return model

    async def test():
        source = dataclasses.replace(healthy, load=load)
        async with served(soup_directory, source=source) as (scorer, soups):
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


def test_soups_that_are_not_needed_leave_the_memory(soup_directory: Path):
    async def test():
        async with served(soup_directory) as (scorer, soups):
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


def test_what_a_change_waits_for_stays_in_memory(soup_directory: Path):
    """Beside a shadow there is room for one more, and another soup is formed right behind it."""

    async def test():
        async with served(soup_directory) as (scorer, soups):
            shadow, next_, last = [
                {"member-0": share, "member-1": 1 - share} for share in (0.9, 0.8, 0.7)
            ]
            await soups.shadow((await soups.create(shadow, "ops")).fingerprint, "ops")
            made = await soups.create(next_, "ops")
            await soups.create(last, "ops")
            await soups.activate(made.fingerprint, "ops")
            assert same(await answer(scorer), expected)
            assert scorer.ready() == (True, "ready")

    expected = alone(soup_directory, {"member-0": 0.8, "member-1": 1 - 0.8})
    run(test)
