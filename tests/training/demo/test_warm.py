"""Demo `warm` small: its parts by hand, its report whole. What it claims is claimed by its full run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tureen_training import cli
from tureen_training.connectivity import State
from tureen_training.demo import toy, warm, warm_report
from tureen_training.demo.warm_report import CLAIMED, CRITERIA, Interval

SMALL = "--seeds 2 --members 2 --pairs 60 --held-out 50 --pretraining-steps 5 --steps 5"


def state(first: float) -> State:
    """A perceptron that rewards `first` for each token 0, and nothing else."""
    w1, w2, head = torch.zeros(toy.VOCABULARY, 3), torch.eye(3), torch.tensor([1.0, 0.0, 0.0])
    w1[0, 0] = first
    return {"w1": w1, "b1": torch.zeros(3), "w2": w2, "b2": torch.zeros(3), "head": head}


def pairs(*counts: tuple[int, int], first: list[bool]) -> toy.Pairs:
    """Pairs of sequences with so many tokens 0, the rest 1."""
    sequences = torch.ones(len(counts), 2, toy.LENGTH, dtype=torch.int64)
    for i, both in enumerate(counts):
        for k, count in enumerate(both):
            sequences[i, k, :count] = 0
    return toy.Pairs(sequences, torch.tensor(first))


def test_rewards_and_margins_by_hand():
    # 2 · 3 − 2 · 1 = 4 for the preferred first; 2 · 0 − 2 · 5, the second preferred: 10
    both = pairs((3, 1), (0, 5), first=[True, False])
    assert toy.margins([state(2.0)], both).tolist() == [[4.0, 10.0]]
    assert toy.margins([state(2.0)], both.swapped(torch.tensor([True, False]))).tolist() == [
        [-4.0, 10.0]
    ]
    assert toy.won(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_soup_and_the_ensemble_are_two_things():
    # one rewards token 0 with 3, one with −1 (which the ReLU makes nothing): weights average to 1, rewards to 1.5
    both = pairs((2, 0), first=[True])
    assert toy.margins([toy.soup_of([state(3.0), state(-1.0)])], both).tolist() == [[2.0]]
    assert toy.margins([state(3.0), state(-1.0)], both).mean(dim=0).tolist() == [3.0]


def test_gold_by_hand():
    world = toy.World(0)
    world._traits = torch.zeros(toy.VOCABULARY, toy.TRAITS)
    world._useful, world._worth = torch.tensor([1, 2]), torch.tensor([0.5, 2.0])
    sequence = torch.tensor([[1, 1, 1, *range(3, 16)]])
    # tanh(0) = 0; token 1 is there, 2 is not: 0.5; two tokens occurred before: −½ · 2
    assert world.gold(sequence).tolist() == [-0.5]


def test_members_learn_at_their_own_rate():
    """Adam's first step is the learning rate, whatever the gradient: the heads move by 0.01 and 0.02."""
    world = toy.World(0)
    train = world.pairs(40)
    (trunk,) = toy.pretrain(world, [0], steps=2)
    start = toy.probed(trunk, train)
    members = [toy.Member(start, train, rate, 0.0, seed=1) for rate in (0.01, 0.02)]
    for trained, rate in zip(toy.fine_tune(members, steps=1), (0.01, 0.02), strict=True):
        moved = (trained["head"] - start["head"]).abs()
        assert moved.max() == pytest.approx(rate, rel=1e-3)


def test_identical_members_are_their_soup():
    world = toy.World(1)
    (trunk,) = toy.pretrain(world, [0], steps=2)
    test = world.pairs(100, shifted=True)
    start = toy.probed(trunk, test)
    compared = warm.compare([start] * 3, test)
    np.testing.assert_array_equal(compared.soup, compared.ensemble)
    np.testing.assert_array_equal(compared.soup, compared.member)


def test_the_interval_is_over_seeds_and_over_what_they_consist_of():
    constant = warm.bootstrap([np.full(10, 0.25), np.full(10, 0.25)])
    assert constant == Interval(0.25, 0.25, 0.25)
    # two seeds that differ: one of four draws takes 0 twice, one 1 twice
    between = warm.bootstrap([np.zeros(10), np.ones(10)])
    assert between == Interval(0.5, 0.0, 1.0)
    # one seed of n = 400 coins: ½ ± 1.96 · 0.5 / √400 = ± 0.049
    within = warm.bootstrap([np.tile([0.0, 1.0], 200)])
    assert (within.low, within.high) == pytest.approx((0.451, 0.549), abs=0.006)


def verdicts(**figures: tuple[float, float]) -> dict[str, bool]:
    """What is reproduced where these intervals are found, and elsewhere all is well."""
    good = {"corrupt": (-0.06, -0.04), "clean": (-0.02, 0.0), "held-out": (0.0, 0.01)}
    found = {**good, "shifted": (0.0, 0.01), **figures}
    sweep = {(CLAIMED, part): Interval(0.0, *ends) for part, ends in found.items()}
    alike = figures.get("alike", (-0.01, 0.01))
    sweep |= {(0.0, part): Interval(0.0, *alike) for part in ("held-out", "shifted")}
    chord = Interval(0.0, *figures.get("chord", (0.0, 0.1)))
    chords = {part: [Interval(0.0, 0.1, 0.2), chord] for part in ("held-out", "shifted")}
    claims = warm_report.judged(sweep, chords, {"connected": [None], "control": ["barrier"]})
    return {claim["claim"]: claim["reproduced"] for claim in claims}


def test_claims_are_judged_by_their_criteria():
    assert verdicts() == dict.fromkeys(CRITERIA, True)
    assert not verdicts(corrupt=(-0.06, 0.0))["corrupt"]
    assert not verdicts(clean=(-0.02, 0.001))["clean"]
    assert not verdicts(shifted=(-0.001, 0.02))["shifted"]
    assert not verdicts(alike=(-0.011, 0.0))["no noise, held-out"]
    assert not verdicts(chord=(-0.001, 0.1))["chord, shifted"]
    nothing = {"connected": [None, "barrier"], "control": ["barrier", None]}
    good = {key: Interval(0.0, 0.0, 0.0) for key in ((0.0, "held-out"), (0.0, "shifted"))}
    good |= {(CLAIMED, part): Interval(0.0, 0.0, 0.0) for part in warm_report.PARTS}
    chords = {part: [Interval(0.0, 0.0, 0.0)] for part in ("held-out", "shifted")}
    found = {c["claim"]: c["reproduced"] for c in warm_report.judged(good, chords, nothing)}
    assert (found["connected"], found["control"]) == (False, False)


def test_a_small_run_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "warm"
    before = torch.get_rng_state()
    assert cli.main(["demo", "warm", *SMALL.split(), "--out", str(out)]) == 0
    assert torch.equal(torch.get_rng_state(), before)
    assert "reproduced" in capsys.readouterr().out
    report = json.loads((out / "warm.json").read_text())
    assert [claim["claim"] for claim in report["claims"]] == list(CRITERIA)
    assert {(row["noise"], row["part"]) for row in report["sweep"]} == {
        (noise, part)
        for noise in warm.NOISES
        for part in warm_report.PARTS
        if (noise, part) != (0.0, "corrupt")
    }
    assert report["cost"]["forwards_ensemble"] == 2
    assert len(report["control"]["refusals"]) == len(report["connected"]) == 2
    for name in ("warm.png", "warm-lines.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_usage(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["demo", "wram"]) == 2
    assert "unknown demo 'wram'; did you mean 'warm'" in capsys.readouterr().err
    assert cli.main(["demo"]) == 0
    assert "known: alarms, almanac" in capsys.readouterr().out
    assert cli.main(["demo", "warm", "--members", "1"]) == 2
    assert "members is 1; it must be at least 2" in capsys.readouterr().err
    assert cli.main(["demo", "warm", "--help"]) == 0
    assert "--first-seed" in capsys.readouterr().out
