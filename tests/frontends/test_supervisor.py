"""What the supervisor does where the system gives it no process."""

import asyncio

import pytest

from tureen.config import Config
from tureen.frontends import supervisor
from tureen.frontends.children import DeviceWork


def test_a_child_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def test():
        tries, again = 0, asyncio.Event()

        async def refused(*command: str, **options: object):
            nonlocal tries
            tries += 1
            if tries == 2:
                again.set()
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(supervisor, "RESPAWN_S", 0.0)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
        child = supervisor.Child("device", DeviceWork(Config(model=("stub",)), 0))
        await asyncio.wait_for(again.wait(), 10)
        assert await child.leave(1) == 0

    asyncio.run(test())
    assert "device cannot be started (Resource temporarily" in capsys.readouterr().err
