"""A front end tokenises for the device process it is linked to, and for no other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from held_engine import MODEL, SAMPLE, request

from tureen.config import Config
from tureen.contracts import RankRequest, ScoreResponse
from tureen.engine import remote
from tureen.engine.remote import Answer, Asked
from tureen.engine.scorer import Scorer
from tureen.engine.scoring import Scoring
from tureen.engine.tokenizing import SampleTokenizer
from tureen.errors import DeadlineExceeded, Overloaded, UnknownHead
from tureen.frontends import device as device_process
from tureen.frontends.device import Device
from tureen.frontends.front import Front

CONFIG = Config(model=("stub",), front_ends=1)


class Linked:
    """A front end and a device process within one event loop, and what the one asked the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.front, self.asked = Front(CONFIG), []
        self._answer = remote.answer
        monkeypatch.setattr(device_process.remote, "answer", self._look)

    async def _look(self, scorer: Scorer, asked: Asked) -> Answer:
        self.asked.append(asked)
        return await self._answer(scorer, asked)

    @property
    def scorer(self) -> Scoring:
        return self.front.admission.scorer()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def linked(monkeypatch: pytest.MonkeyPatch, place: Path) -> AsyncIterator[tuple[Linked, Any]]:
    both = Linked(monkeypatch)
    engine = Scorer([MODEL])
    await engine.start()
    device = Device(CONFIG)
    device.admission.open(engine, lambda model: pytest.fail("no soups here"))
    links: list[Any] = []

    def link() -> Any:
        links.append(device.link())
        return links[-1]

    server = await asyncio.get_running_loop().create_unix_server(link, str(place))
    tasks = [
        asyncio.create_task(work) for work in (device.watch(), both.front.stay_connected(place))
    ]
    try:
        await both.until(lambda: both.front.admission.ready()[0])
        yield both, (device, engine, links)
    finally:
        for task in tasks:
            task.cancel()
        both.front.close()
        server.close()
        await engine.stop(0.01)


def test_it_tokenises_as_soon_as_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    async def test() -> None:
        async with linked(monkeypatch, tmp_path / "device") as (both, (device, engine, _)):
            asked = request(SAMPLE, segments=True)
            before = await both.scorer.score(asked)
            assert both.asked[-1].tokenized is None
            device.hand_out(device_process.tokenizers_of(engine))
            await both.until(lambda: both.front._tokenizers)
            after = await both.scorer.score(asked)
            assert both.asked[-1].tokenized is not None
            assert isinstance(after, ScoreResponse)
            assert after.results == before.results
            ranked = await both.scorer.rank(
                RankRequest(
                    prompt=SAMPLE.prompt, responses=SAMPLE.responses, context=SAMPLE.context
                )
            )
            assert both.asked[-1].tokenized is not None
            assert ranked.scores == after.results[0].scores
            count = len(both.asked)
            with pytest.raises(UnknownHead, match="'beauty'"):
                await both.scorer.score(request(SAMPLE, heads=("beauty",)))
            assert len(both.asked) == count  # the device process was not even asked

    asyncio.run(test())


def test_a_client_that_was_refused_is_let_in_before_its_texts_are_tokenised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    async def test() -> None:
        async with linked(monkeypatch, tmp_path / "device") as (both, (device, engine, _)):
            device.hand_out(device_process.tokenizers_of(engine))
            await both.until(lambda: both.front._tokenizers)
            tokenised = []
            for most in (0, 0, 4096, 4096):
                engine._permits.most = most
                with pytest.raises(Overloaded) if not most else contextlib.nullcontext():
                    await both.scorer.score(request(SAMPLE))
                tokenised.append(both.asked[-1].tokenized is not None)
            assert tokenised == [True, False, False, True]

    asyncio.run(test())


def test_tokens_for_a_device_process_that_is_gone_are_not_sent_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """It may have loaded another tokenizer."""
    tokenise = SampleTokenizer.in_chunks

    async def test() -> None:
        async with linked(monkeypatch, tmp_path / "device") as (both, (device, engine, links)):
            device.hand_out(device_process.tokenizers_of(engine))
            await both.until(lambda: both.front._tokenizers)

            async def slowly(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
                async for chunk in tokenise(*arguments, **named):
                    links[0].close()
                    await both.until(lambda: len(links) == 2 and both.front.admission.ready()[0])
                    yield chunk

            monkeypatch.setattr(SampleTokenizer, "in_chunks", slowly)
            answered = await both.scorer.score(request(SAMPLE))
            assert both.asked[-1].tokenized is None
            assert answered.results[0].error is None

    asyncio.run(test())


def test_a_deadline_is_kept_while_it_tokenises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    async def without_end(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def test() -> None:
        async with linked(monkeypatch, tmp_path / "device") as (both, (device, engine, _)):
            device.hand_out(device_process.tokenizers_of(engine))
            await both.until(lambda: both.front._tokenizers)
            monkeypatch.setattr(SampleTokenizer, "in_chunks", without_end)
            deadline_ns = time.monotonic_ns() + 50_000_000
            async with asyncio.timeout(20):
                with pytest.raises(DeadlineExceeded, match="before the answer was ready"):
                    await both.scorer.score(request(SAMPLE), deadline_ns=deadline_ns)

    asyncio.run(test())
