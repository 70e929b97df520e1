"""Demo `alarms`: how runs are told apart and limits are fitted, by hand; and the whole of it, small."""

from __future__ import annotations

import json

import pytest

from tureen_training.demo import alarms
from tureen_training.demo.alarms import (
    GOLD,
    Config,
    Run,
    fitted,
    level,
    seen_in_time,
    separation,
    verdict,
)
from tureen_training.demo.toy_policy import Look
from tureen_training.demo.toy_rewards import Making
from tureen_training.watch import Threshold

RISING = Threshold(figure="x", above=0.0, times=2)
FALLING = Threshold(figure="x", below=0.0, of_start=True, times=2)


def run(name: str, gold: list[float], x: list[float], seed: int = 0) -> Run:
    looks = [
        Look(step=10 * i, gold=g, proxy=0.0, kl_nats=0.0, figures={"x": v})
        for i, (g, v) in enumerate(zip(gold, x, strict=True))
    ]
    return Run(seed, name, name != "c", tuple(looks))


COLLAPSED = run("c", [0, 2, 4, 4, 4, 1, 0, 0, 0], [1, 1, 1, 2, 4, 6, 8, 9, 9])
HEALTHY = run("h", [0, 2, 4, 4, 4, 4, 4, 4, 4], [1, 1, 1, 1, 2, 1, 2, 2, 1])


def test_gold_says_what_became_of_a_run():
    """Gold is the mean of three looks: 0.67, 2, 3.33, 4, 3, … 0 of the first; all of 3.33 is lost. Peak at step 30."""
    assert COLLAPSED.peak == 30
    assert COLLAPSED.lost == pytest.approx(4 / (4 - 2 / 3))
    assert (COLLAPSED.kind, HEALTHY.kind) == ("collapsed", "healthy")
    noise = run("n", [0, 0.4, 0.5, 0.3, 0, -0.2, 0, 0, 0], [1.0] * 9)
    assert (noise.lost, noise.kind) == (0.0, "healthy")
    assert run("c", [0, 1, 1, 1, 1, 1, 1, 1, 1], [1.0] * 9).kind == "between"  # no penalty


def test_the_level_of_a_run_lasts_two_looks():
    assert level(COLLAPSED, RISING) == 9
    assert level(COLLAPSED, RISING, until=50) == 4  # 4 and 6
    assert level(HEALTHY, RISING) == 2
    falling = run("f", [0.0] * 6, [2, 2, 2, 1, 0.5, 2])
    assert level(falling, FALLING) == 0.5  # 1 and 0.5 of a start of 2: the higher
    assert level(run("short", [0.0] * 3, [1, 1, 1]), FALLING) is None


def test_a_limit_keeps_quiet_in_nearly_all_healthy_runs():
    """Highest of 100 healthy runs: 1, 2, … 100; 97 % of them do not pass 98, the first place past 0.97 · 99 = 96.03."""
    healthy = [run("h", [0.0] * 9, [0.0] * 8 + [i + 1.0], seed=i) for i in range(100)]
    limit = fitted(Threshold(figure="x", above=0.0), [COLLAPSED, *healthy])
    assert limit is not None
    assert limit.above == 98.0
    falling = [run("h", [0.0] * 9, [100.0] * 8 + [100.0 - i], seed=i) for i in range(100)]
    limit = fitted(Threshold(figure="x", below=0.0), falling)
    assert limit is not None
    assert limit.below == 3.0  # 100 − 97
    assert fitted(RISING, [COLLAPSED]) is None


def test_what_is_seen_in_time_when_a_limit_is_fitted():
    """Above 3 from step 40 on, the peak is at 30."""
    limit = Threshold(figure="x", above=3.0)
    assert seen_in_time(limit, [COLLAPSED, HEALTHY], late=10) == 1.0
    assert seen_in_time(limit, [COLLAPSED, HEALTHY], late=9) == 0.0
    assert seen_in_time(limit, [HEALTHY], late=9) == 0.0


def test_the_verdict_on_a_watch():
    """Above 2.7 twice: at step 50, where the peak was 30 and an alarm may be 9 late; too late, and seen."""
    golden = Run(0, GOLD, False, HEALTHY.looks)
    runs = [COLLAPSED, HEALTHY, golden]
    found = verdict(runs, [Threshold(figure="x", above=2.7, times=2)], late=9)
    assert found["in_time"]["value"] == 0.0
    assert found["detected"]["value"] == 1.0
    assert found["false"]["value"] == found["gold"]["value"] == 0.0
    assert found["after_peak"] == 20
    assert found["gold_by_then"] == pytest.approx((5 / 3 - 2 / 3) / (4 - 2 / 3))
    eager = verdict(runs, [Threshold(figure="x", above=0.5)], late=9)
    assert all(eager[name]["value"] == 1.0 for name in ("in_time", "false", "gold"))
    assert (eager["after_peak"], eager["gold_by_then"]) == (-30, 0.0)  # an alarm at step 0 is one


def test_how_well_a_figure_tells_the_runs_apart():
    """Until step 39 the collapsed one has reached 2, as the healthy one has; at 40 it has 4."""
    limit = Threshold(figure="x", above=0.0)
    assert separation([COLLAPSED, HEALTHY], limit, late=9) == 0.5
    assert separation([COLLAPSED, HEALTHY], limit, late=10) == 1.0
    assert separation([HEALTHY], limit, late=10) is None


@pytest.mark.slow
def test_the_whole_of_it_small(tmp_path, capsys):
    """One seed each; what is judged is the one figure that was chosen."""
    small = Making(members=2, pairs=200, pretraining_steps=50, tuning_steps=50)
    config = Config(
        out=str(tmp_path), seeds=1, fit_seeds=1, models=small, steps=60, kl_coefficients=(0.0,)
    )
    report = alarms.main(config)
    assert sum(report["runs"].values()) == len(report["curves"]) == 6
    assert json.loads((tmp_path / "alarms.json").read_text())["shipped"] == report["shipped"]
    assert report["fitted"] == {n: report["figures"][0][n] for n in report["fitted"]}
    assert (tmp_path / "alarms.png").stat().st_size > 1000
    assert "as fitted" in capsys.readouterr().out
    [constant] = [one for one in report["curves"] if one["name"] == "constant reward"]
    assert constant["kind"] == "healthy"
    assert max(constant["kl_nats"]) == pytest.approx(0, abs=1e-4)
    hacked = next(one for one in report["curves"] if one["name"].startswith("member of one"))
    assert hacked["proxy"][-1] > hacked["proxy"][0] + 1
    assert hacked["kl_nats"][-1] > 2


def test_limits_are_judged_on_other_seeds():
    with pytest.raises(ValueError, match="seeds that they were not fitted on"):
        Config(seeds=5, first_seed=100)
