import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pico_ppo
import pytest
from pico_ppo import Rewarding, blue
from server_process import serving

from tureen.contracts import Sample
from tureen_training import best_of_n as stage
from tureen_training import cli
from tureen_training.best_of_n import Config, best_of_n, figures, kl_of_best_of_n
from tureen_training.candidates import read_asked
from tureen_training.oracle import OracleUnavailable, Unscorable
from tureen_training.policies import load_tokenizer
from tureen_training.rollout import respond


def test_best_of_two_of_three_by_hand():
    """Sorted by proxy, gold is 5, 1, 3. Of the three pairs the best is 1, 3 and 3."""
    proxy, gold = np.array([0.2, 0.1, 0.9]), np.array([1.0, 5.0, 3.0])
    assert best_of_n(proxy, gold, 2) == pytest.approx(7 / 3)
    assert best_of_n(proxy, gold, 1) == pytest.approx(3.0)
    assert best_of_n(proxy, gold, 3) == pytest.approx(3.0)


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_it_is_the_mean_over_all_subsets(n: int):
    """Ties included: each of the tied is taken equally often."""
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, 7).astype(float), rng.normal(size=7)
    means = []
    for chosen in combinations(range(7), n):
        best = max(proxy[list(chosen)])
        means.append(np.mean([gold[i] for i in chosen if proxy[i] == best]))
    if n in (1, 7):  # a tie inside a subset is not one of the whole
        assert best_of_n(proxy, gold, n) == pytest.approx(np.mean(means))
    untied = proxy + np.arange(7) / 100
    expected = np.mean(
        [gold[max(chosen, key=lambda i: untied[i])] for chosen in combinations(range(7), n)]
    )
    assert best_of_n(untied, gold, n) == pytest.approx(expected)


def test_ties_are_broken_at_random():
    """Over all orders of two tied samples beside a worse one: best of two is ⅓ (4 + 8) / 2 · 2 + ⅓ (4 + 8) / 2."""
    assert best_of_n(np.array([0.0, 1.0, 1.0]), np.array([0.0, 4.0, 8.0]), 2) == pytest.approx(6.0)


def test_large_numbers_stay_finite():
    gold = np.linspace(0, 1, 60_000)
    assert best_of_n(gold, gold, 12_500) == pytest.approx(12_500 / 12_501, abs=1e-4)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.0), (4, 0.64), (64, 3.17), (1024, 5.93)])
def test_the_distance_of_best_of_n(n: int, expected: float):
    assert kl_of_best_of_n(n) == pytest.approx(expected, abs=0.006)
    assert kl_of_best_of_n(4) == pytest.approx(math.log(4) - 0.75)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match=r"n is 4; of 3 samples it must be in 1 … 3"):
        best_of_n(np.zeros(3), np.zeros(3), 4)
    with pytest.raises(ValueError, match="one shape"):
        best_of_n(np.zeros(3), np.zeros(4), 1)


def test_the_figures_of_two_prompts_by_hand():
    """Rewards 1, 3 with gold 5, 1 and 2, 2 with 0, 4: the favourites get 3 and 2 of the reward, 1 and 2 of gold.
    The third prompt has one response with a reward, so there is no best of two."""
    records: list[dict[str, Any]] = [
        {"rewards": [1.0, 3.0], "gold": [5.0, 1.0]},
        {"rewards": [2.0, 2.0], "gold": [0.0, 4.0]},
        {"rewards": [9.0, None], "gold": [9.0, None]},
    ]
    found = figures(records, 2)
    assert found["prompts"] == 2
    assert found["kl_nats_per_response"] == pytest.approx(math.log(2) - 0.5)
    assert (found["reward"]["value"], found["reward"]["of_one"]) == (2.5, 2.0)
    assert (found["gold"]["value"], found["gold"]["of_one"]) == (1.5, 2.5)
    assert figures(records, 1)["prompts"] == 3
    assert "reward" not in figures(records[2:], 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return pico_ppo.directory(tmp_path_factory.mktemp("best"))


def config(root: Path, name: str, **changes: Any) -> Config:
    defaults: dict[str, Any] = {
        "policy": str(root / "policy"),
        "out": str(root / name),
        "prompts": (str(root / "prompts.jsonl"),),
        "samples": 8,
        "max_new_tokens": 6,
        "prompts_per_request": 1,
    }
    return Config(**defaults | changes)


def test_the_best_say_blue(root: Path):
    """What is rewarded rises with n; what judges and rewards red does not."""

    def red(text: str) -> float:
        return float(text.strip() == "red")

    report = stage.chosen(config(root, "blue"), Rewarding(blue), Rewarding(red))
    rows = report["best_of_n"]
    assert [row["n"] for row in rows] == [1, 2, 4, 8]
    rewards = [row["reward"]["value"] for row in rows]
    assert rewards == sorted(rewards)
    assert rewards[-1] > 2 * rewards[0]
    assert rows[0]["gold"]["value"] == pytest.approx(rows[0]["gold"]["of_one"])
    samples = pico_ppo.read(root / "blue" / "samples.jsonl")
    best = pico_ppo.read(root / "blue" / "best.jsonl")
    assert [one["id"] for one in best] == pico_ppo.PROMPTS
    for record, own in zip(samples, best, strict=True):
        known = [reward for reward in record["rewards"] if reward is not None]
        assert own["reward"] == max(known) == own["response"].split().count("blue")
    assert (root / "blue" / "best-of-n.png").stat().st_size > 1000
    read, _ = read_asked([str(root / "blue" / "best.jsonl")], load_tokenizer(root / "policy"), None)
    assert [one.candidates[0].text for one in read] == [one["response"] for one in best]


def test_a_stopped_run_goes_on(root: Path):
    whole = stage.chosen(config(root, "whole"), Rewarding(blue), None)
    with pytest.raises(OracleUnavailable):
        stage.chosen(config(root, "cut"), Rewarding(blue, available=2), None)
    oracle = Rewarding(blue)
    assert stage.chosen(config(root, "cut"), oracle, None) == whole
    assert len(oracle.asked) == 2 * 8
    names = ("samples.jsonl", "best.jsonl")
    assert all((root / "cut" / n).read_text() == (root / "whole" / n).read_text() for n in names)
    with pytest.raises(ValueError, match="other temperature"):
        stage.chosen(config(root, "cut", temperature=2.0), oracle, None)


def test_what_has_no_reward_is_not_chosen(root: Path):
    class Never(Rewarding):
        def _reward(self, sample: Sample):
            return Unscorable("input_too_long", "too long")

    report = stage.chosen(config(root, "never"), Never(blue), None)
    assert report["oracle/unscorable_frac"] == 1.0
    assert [row["prompts"] for row in report["best_of_n"]] == [0] * 4
    assert pico_ppo.read(root / "never" / "best.jsonl") == []


def test_a_part_is_scored_while_the_next_is_sampled(root: Path, monkeypatch):
    """By the order of events: what is asked is fetched only after the next part was sampled."""
    happened: list[str] = []

    class Noted(Rewarding):
        def submit(self, samples):
            future = super().submit(samples)
            happened.append("asked")
            fetch = future.result
            future.result = lambda timeout=None: (happened.append("fetched"), fetch())[1]
            return future

    def sampling(*args, **kwargs):
        happened.append("sampled")
        return respond(*args, **kwargs)

    monkeypatch.setattr(stage, "respond", sampling)
    stage.chosen(config(root, "order"), Noted(blue), None)
    first = ["sampled", "asked"] * 2
    assert (
        happened
        == [*first, "fetched", "sampled", "asked", "fetched", "sampled", "asked"] + ["fetched"] * 2
    )


@pytest.mark.slow
def test_against_a_server_process(root: Path, capsys):
    with serving("stub") as server:
        arguments = ["--policy", str(root / "policy"), "--out", str(root / "served")]
        arguments += ["--prompts", json.dumps([str(root / "prompts.jsonl")]), "--samples", "4"]
        arguments += ["--oracle", server.target, "--max-new-tokens", "6", "--gold", server.url]
        assert cli.main(["best-of-n", *arguments]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["n"] for row in report["best_of_n"]] == [1, 2, 4]
    for row in report["best_of_n"]:
        assert row["gold"]["value"] == row["reward"]["value"]  # the same model behind both doors


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sizes": (9,)}, "each must be in 1 … 8, samples"),
        ({"samples": 0}, "samples is 0"),
        ({"temperature": 0.0}, "above 0 to have a choice"),
    ],
)
def test_impossible_options_are_refused(root: Path, changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        config(root, "impossible", **changes)
