"""What is remembered of soups beyond a restart."""

import json
from pathlib import Path

import pytest
from held_engine import run
from live_soups import LEAN, answer, same, served

from tureen.contracts import SoupState
from tureen.engine.soup_store import SoupStore
from tureen.errors import BackendFailure
from tureen.model.manifest import ModelError


def test_a_restart_serves_what_was_active(soup_directory: Path, tmp_path: Path):
    async def test():
        async with served(soup_directory, tmp_path) as (scorer, soups):
            origin = await answer(scorer)
            made = await soups.create(LEAN, "ops")
            await soups.activate(made.fingerprint, "ops")
            lean = await answer(scorer)
            listed = await soups.list()
        async with served(soup_directory, tmp_path) as (scorer, soups):
            assert same(await answer(scorer), lean)
            again = await soups.list()
            assert again.history == listed.history
            assert (again.active, again.previous) == (lean[0], origin[0])
            states = {one.fingerprint: one.state for one in again.soups}
            assert states == {origin[0]: SoupState.STORED, lean[0]: SoupState.ACTIVE}
            await soups.rollback(None, "ops")
            assert same(await answer(scorer), origin)

    run(test)


def test_what_cannot_be_written_is_not_done(soup_directory: Path, tmp_path: Path):
    async def test():
        (tmp_path / "file").write_text("")
        async with served(soup_directory) as (scorer, soups):
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


def test_a_record_of_other_coefficients_is_not_served(soup_directory: Path, tmp_path: Path):
    """It would answer by one fingerprint and be listed under another."""

    async def test():
        async with served(soup_directory, tmp_path) as (_, soups):
            await soups.activate((await soups.create(LEAN, "ops")).fingerprint, "ops")
        (record,) = tmp_path.iterdir()
        record.write_text(
            record.read_text(encoding="utf-8").replace("0.9", "0.8").replace("0.1", "0.2")
        )
        with pytest.raises(ModelError, match="what is recorded of it makes sha256:"):
            async with served(soup_directory, tmp_path):
                pass

    run(test)
