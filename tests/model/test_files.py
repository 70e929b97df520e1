from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tureen.model.files import replacing, sha256_file, write_atomically


def leave_half(target: Path) -> None:
    with replacing(target) as fresh:
        (fresh / "half").write_text("half")
        raise OSError("disk full")


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_sha256_of_three_letters(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")  # the example of FIPS 180
    assert sha256_file(tmp_path / "f").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("kernel_exchanges", [True, False])
def test_a_directory_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_exchanges: bool
):
    if not kernel_exchanges:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    target = tmp_path / "deep" / "model"
    for content in ("old", "new"):
        with replacing(target) as fresh:
            (fresh / content).write_text(content)
    assert leftovers(target) == ["new"]
    assert leftovers(target.parent) == ["model"]
    assert (target / "new").stat().st_mode & 0o777 == 0o644
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_failure_in_the_middle_leaves_the_old_one(tmp_path: Path):
    with replacing(tmp_path / "model") as fresh:
        (fresh / "old").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        leave_half(tmp_path / "model")
    assert leftovers(tmp_path / "model") == ["old"]
    assert leftovers(tmp_path) == ["model"]


def test_where_there_was_none_a_failure_leaves_none(tmp_path: Path):
    with pytest.raises(OSError, match="disk full"):
        leave_half(tmp_path / "model")
    assert leftovers(tmp_path) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "f"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["f"]
