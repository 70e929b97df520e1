"""PPO beside its oracle: what overlaps, what a swap of the soup does, what alarms do."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pico_ppo
import pytest
from client.stand_in import StandIn
from pico_ppo import Rewarding, blue

from tureen_training import ppo
from tureen_training.oracle import SoupSwapped
from tureen_training.policies import load_policy
from tureen_training.watch import Threshold


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return pico_ppo.directory(tmp_path_factory.mktemp("ppo-oracle"))


def test_rewards_are_on_their_way_while_the_next_chunk_is_sampled(root: Path, monkeypatch):
    """The oracle is slow: it answers for a chunk once the next one has been sampled, for the last one once the networks
    have read everything. A loop that waited for it earlier would meet an answer that is not there."""
    happened: list[str] = []

    class Late(Future):
        def result(self, timeout=None):
            assert self.done(), f"waited after {happened}"
            happened.append("fetched")
            return super().result(timeout)

    class Slow(Rewarding):
        def __init__(self) -> None:
            super().__init__(blue)
            self.owed: list[tuple[Late, list[Any]]] = []

        def submit(self, samples):
            happened.append("asked")
            self.owed.append((Late(), super().submit(samples).result()))
            return self.owed[-1][0]

        def answer(self) -> None:
            for future, rewards in self.owed:
                future.set_result(rewards)
            self.owed.clear()

    oracle = Slow()

    def noted(name: str, function):
        def note(*args, **kwargs):
            done = function(*args, **kwargs)
            happened.append(name)
            oracle.answer()
            return done

        return note

    monkeypatch.setattr(ppo, "respond", noted("sampled", ppo.respond))
    monkeypatch.setattr(ppo, "readings_of", noted("read", ppo.readings_of))
    pico_ppo.run(root, "overlap", oracle, steps=1, chunks=3)
    assert happened == ["sampled", "asked"] * 3 + ["read"] + ["fetched"] * 3
    [step] = [
        record
        for record in pico_ppo.read(root / "overlap.run" / "metrics.jsonl")
        if record["event"] == "step"
    ]
    assert 0 <= step["oracle/wait_share"] < 1


@pytest.mark.parametrize("action", ["warn", "raise_kl", "stop"])
def test_an_alarm_does_what_its_threshold_says(root: Path, action: Any):
    threshold = Threshold(figure="policy/entropy", above=0.0, times=2, action=action)
    found = pico_ppo.run(root, f"alarm-{action}", Rewarding(blue), thresholds=(threshold,))
    alarms = [r for r in pico_ppo.events(root, f"alarm-{action}") if r["event"] == "alarm"]
    assert (alarms[0]["step"], alarms[0]["action"]) == (2, action)
    coefficients = [step["kl/coefficient"] for step in found]
    expected = {
        "warn": [0.05] * 4,
        "raise_kl": [0.05, 0.05, 0.075, 0.075],
        "stop": [0.05] * 2,
    }
    assert coefficients == pytest.approx(expected[action])
    stopped = load_policy(root / f"alarm-{action}").lineage["stopped"]
    assert (stopped is not None) == (action == "stop")


@pytest.mark.parametrize("on_swap", ["refuse", "log"])
def test_a_soup_swapped_in_the_middle_of_a_run(root: Path, on_swap: str):
    """From the 21st response on, in the second step, the service scores with other weights."""
    service = StandIn()

    def swap(service: StandIn) -> None:
        service.fingerprint = "sha256:two"

    service.script += [lambda _: None] * 20 + [swap]
    name = f"swap-{on_swap}"
    with service.grpc() as server:
        options = {"oracle": server.address, "on_swap": on_swap, "dense": False, "steps": 3}
        config = pico_ppo.config(root, name, **options)
        if on_swap == "refuse":
            with pytest.raises(SoupSwapped, match=r"scored with sha256:two.*stopped before step 2"):
                ppo.main(config)
            assert len(pico_ppo.steps(root, name)) == 1
        ppo.main(dataclasses.replace(config, on_swap="log"))
    assert len(pico_ppo.steps(root, name)) == 3
    [found] = [r for r in pico_ppo.events(root, name) if r["event"] == "swap"]
    assert (found["old"], found["new"], found["step"]) == ("sha256:one", "sha256:two", 2)
