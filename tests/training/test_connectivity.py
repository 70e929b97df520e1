from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tureen.errors import IncompatibleSoup
from tureen_training.connectivity import (
    Line,
    Outcomes,
    State,
    as_record,
    follow,
    require_connected,
    write,
)

PROMPTS = 400


def point(value: float) -> State:
    return {"w": torch.tensor([value])}


def valley(state: State) -> dict[str, Outcomes]:
    """Right about 360 of 400 prompts at −1 and 1, about 160 at 0: |w| · 200 + 160."""
    right = round(160 + 200 * abs(float(state["w"])))
    wins = np.zeros(PROMPTS)
    wins[:right] = 1.0
    return {"preference": Outcomes(wins, np.ones(PROMPTS))}


def level(state: State) -> dict[str, Outcomes]:
    """The same prompts right everywhere."""
    return valley(point(1.0))


def test_a_valley_by_hand():
    (line,) = follow({"a": point(-1.0), "b": point(1.0)}, valley)
    assert (line.a, line.b, line.head) == ("a", "b", "preference")
    assert line.lambdas == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    # w(λ) = 2 λ − 1: 0.4 + 0.5 |2 λ − 1|
    expected = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert line.accuracy == pytest.approx(expected)
    assert line.barrier == pytest.approx(0.5)
    # 200 of 400 prompts are lost at λ = ½: s = √(½ · ½ / 400) = 0.025
    assert 0.5 - 4 * 0.025 < line.low < 0.5 - 2 * 0.025
    assert 0.5 + 2 * 0.025 < line.high < 0.5 + 4 * 0.025
    assert line.verdict() == "barrier"
    assert (line.n, line.prompts) == (400, 400)
    with pytest.raises(
        IncompatibleSoup, match=r"between a and b .* 0\.400 at λ = 0\.5, 0\.500 below"
    ):
        require_connected([line])


def test_the_chord_of_unequal_ends_is_no_barrier():
    # accuracy 0.4 + 0.5 w is linear in w ≥ 0: on the chord everywhere
    (line,) = follow({"a": point(0.0), "b": point(1.0)}, valley, steps=4)
    assert line.accuracy == pytest.approx([0.4, 0.525, 0.65, 0.775, 0.9])
    assert line.gaps == pytest.approx(np.zeros(5), abs=1e-12)
    assert line.verdict() != "barrier"
    require_connected([line])


def test_a_level_line_is_connected_for_certain():
    lines = follow({name: point(0.0) for name in "abc"}, level)
    assert [(line.a, line.b) for line in lines] == [("a", "b"), ("a", "c"), ("b", "c")]
    for found in lines:
        assert (found.barrier, found.low, found.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert {line.verdict() for line in lines} == {"connected"}


def test_every_state_is_evaluated_once_and_lines_between():
    seen = []

    def counting(state: State) -> dict[str, Outcomes]:
        seen.append(float(state["w"]))
        return level(state)

    follow({"a": point(0.0), "b": point(1.0), "c": point(2.0)}, counting, steps=2)
    assert seen == [0.0, 1.0, 2.0, 0.5, 1.0, 1.5]


def test_a_head_without_comparisons_is_left_out():
    def two_heads(state: State) -> dict[str, Outcomes]:
        return {**valley(state), "relevance": Outcomes(np.zeros(PROMPTS), np.zeros(PROMPTS))}

    lines = follow({"a": point(-1.0), "b": point(1.0)}, two_heads)
    assert [line.head for line in lines] == ["preference"]
    assert follow({"a": point(-1.0)}, two_heads) == []


def test_a_prompt_counts_with_its_comparisons():
    # 3 of 4 and 0 of 1 won: 3/5
    assert Outcomes(np.array([3.0, 0.0]), np.array([4.0, 1.0])).accuracy == pytest.approx(0.6)


def test_noise_is_not_taken_for_a_barrier():
    """Ten lines between models that are equally good, each right at random: one check in twenty may
    see a barrier. Of 40 checks more than 6 see one with a probability below 0.4 % (binomial)."""
    refused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)

        def random(_state: State, rng: np.random.Generator = rng) -> dict[str, Outcomes]:
            return {"preference": Outcomes((rng.random(60) < 0.6).astype(float), np.ones(60))}

        lines = follow({name: point(0.0) for name in "abcde"}, random, seed=seed)
        refused += any(line.low > 0 for line in lines)
    assert refused <= 6


def line(barrier: float, low: float, high: float) -> Line:
    return Line(
        a="a", b="b", head="h", lambdas=(0.0, 0.5, 1.0), accuracy=(0.7, 0.7 - barrier, 0.7),
        barrier=barrier, low=low, high=high, n=10, prompts=5,
    )  # fmt: skip


def test_verdicts_follow_the_interval():
    assert line(0.0, 0.0, 0.01).verdict() == "connected"
    assert line(0.02, 0.0, 0.05).verdict() == "unclear"
    assert line(0.05, 0.02, 0.08).verdict() == "barrier"
    assert line(0.05, 0.02, 0.08).verdict(tolerance=0.1) == "connected"
    require_connected([line(0.02, 0.0, 0.05)])
    require_connected([])


def test_the_greatest_barrier_is_named():
    lines = [line(0.05, 0.02, 0.08), line(0.2, 0.1, 0.3), line(0.0, 0.0, 0.0)]
    with pytest.raises(IncompatibleSoup, match=r"0\.200 below .* 2 of 3 lines.* allowed is 0\.01"):
        require_connected(lines)
    record = as_record(lines)
    assert record["verdicts"] == {"barrier": 2, "connected": 1}
    assert record["greatest_barrier"]["value"] == 0.2


def test_lines_are_written_and_drawn(tmp_path: Path):
    lines = follow({"a": point(-1.0), "b": point(1.0), "soup": point(0.0)}, valley)
    write(lines, tmp_path / "new" / "lines")
    record = json.loads((tmp_path / "new" / "lines.json").read_text())
    assert [entry["verdict"] for entry in record["lines"]].count("barrier") == 1
    assert record["lines"][0]["accuracy"] == list(lines[0].accuracy)
    assert (tmp_path / "new" / "lines.png").read_bytes().startswith(b"\x89PNG")
