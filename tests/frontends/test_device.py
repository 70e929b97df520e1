"""The device process whose model cannot be loaded, as the supervisor starts it, within this process."""

import asyncio
import socket
from pathlib import Path

import pytest

from tureen.config import Config
from tureen.frontends import device
from tureen.frontends.supervisor import first_news
from tureen.model.manifest import ModelError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def meeting(place: Path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        yield listening


NOWHERE = Config(model=("/nowhere",), host="127.0.0.1")


def test_who_starts_the_server_hears_why_and_ends_it(meeting: socket.socket, place: Path):
    async def started() -> int:
        told_to_leave = asyncio.Event()
        serving = asyncio.create_task(device.serve(NOWHERE, meeting, told_to_leave))
        with pytest.raises(ModelError, match="/nowhere"):
            await first_news(place)
        told_to_leave.set()
        return await serving

    assert asyncio.run(started()) == 0


def test_in_the_place_of_another_it_leaves_it_to_the_next_to_try_again(
    meeting: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It would else say for ever that the model is being loaded."""
    monkeypatch.setattr(device, "RELOAD_S", 0.0)
    serving = device.serve(NOWHERE, meeting, asyncio.Event())
    assert asyncio.run(asyncio.wait_for(serving, 20)) == 1
    assert "another process tries again" in caplog.text
