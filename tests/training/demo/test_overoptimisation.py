"""Demo `overoptimisation`: the figures of a run and the verdicts by hand; and the whole of it, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tureen_training.demo import overoptimisation, overoptimisation_report
from tureen_training.demo.overoptimisation import Config
from tureen_training.demo.overoptimisation_report import CRITERIA, by_seed
from tureen_training.demo.overoptimisation_runs import (
    COMBINED,
    FAMILIES,
    METHODS,
    Run,
    Trial,
    standard_gold,
)
from tureen_training.demo.toy import World
from tureen_training.demo.toy_rewards import Making
from tureen_training.scaling import Law

LOOKS = 12
D = np.linspace(0.0, 4.0, LOOKS)


def run(
    method: str = "single",
    *,
    family: str = "one",
    beta: float = 0.0,
    gold: np.ndarray | None = None,
    growth: float = 4.0,
    believed: float = 0.5,
) -> Run:
    """Its gold follows the law with α 2 and β 1.5, up to d = 1.4 and then down, unless told otherwise."""
    gain = np.linspace(0.0, 10.0, LOOKS)
    single = method == "single"
    return Run(
        family=family,
        method=method,
        kl_coefficient=beta,
        gold=Law(2.0, 1.5).at(D) if gold is None else gold,
        proxy=gain,
        kl_nats=D**2,
        disagreement=np.array([0.5] * (LOOKS - 3) + [0.5 * growth] * 3),
        own=gain if single else None,
        others=believed * gain if single else None,
    )


def test_the_members_are_combined():
    """Members give 1 and 3, and 4 and 4: means 2 and 4, least 1 and 4, variances 1 and 0."""
    rewards = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    found = {name: of(torch.zeros(2, 16), rewards).tolist() for name, of in COMBINED.items()}
    assert list(found.values()) == [[2.0, 4.0], [1.0, 4.0], [1.5, 4.0], [0.0, 4.0]]


def test_the_figures_of_a_run_by_hand():
    """Looks 0, 2, 4, …: 5 at look 4 is the highest of those, beside it 4 and 3; the end is (1 + 0 + 2) / 3."""
    gold = np.array([0.0, 1, 2, 4, 5, 3, 3, 3, 3, 1, 0, 2])
    found = run(gold=gold).figures()
    assert (found["peak"], found["end"], found["lost"]) == (3.5, 1.0, 2.5)
    assert found["peak_kl_nats"] == pytest.approx((4 * 4 / 11) ** 2)
    assert found["proxy_end"] == pytest.approx(10 * 10 / 11)  # of looks 9, 10 and 11
    assert found["proxy_rose"] == pytest.approx(10 * 6 / 11)  # looks 3 and 5: 4
    assert found["log_growth"] == pytest.approx(np.log(4))
    assert found["believed"] == pytest.approx(0.5)
    assert "believed" not in run("mean").figures()


def test_the_form_is_found_in_a_run():
    found = run().figures()
    assert (found["alpha"], found["beta"]) == pytest.approx((2.0, 1.5))
    assert found["r2_law"] == pytest.approx(1.0)
    assert found["r2_line"] < 0.9


def test_runs_of_a_seed_count_once():
    up = np.array([*range(LOOKS - 3), 10.0, 10.0, 10.0])
    found = by_seed([[run(gold=up), run(gold=up + 1)], [run(gold=up + 4)] * 2])
    assert found["end"].tolist() == [10.5, 14.0]


def test_gold_is_standard():
    world = World(3)
    usual = standard_gold(world)(world.sequences(20000))
    assert (float(usual.mean()), float(usual.std())) == pytest.approx((0.0, 1.0), abs=0.06)


def trial(**changed: Any) -> Trial:
    """Where everything is as claimed, but for the fields that are changed."""
    rising = np.concatenate([np.linspace(0.0, 3.0, LOOKS - 4), [3.0] * 4])
    runs = []
    for family in FAMILIES:
        for method in METHODS:
            growth = 1.5 if method.startswith("uncertainty") else 4.0
            told = {"family": family, "growth": growth, "believed": 0.9 - 0.3 * (family != "one")}
            runs += [run(method, **told), run(method, beta=0.3, gold=rising, **told)]
    sized = {
        size: [run(gold=Law(2.0, beta).at(D))]
        for size, beta in {500: 1.6, 2000: 1.5, 8000: 1.4}.items()
    }
    given: dict[str, Any] = {
        "seed": 0,
        "runs": runs,
        "gold": run("gold", gold=rising),
        "sized": sized,
        "accuracy": {500: 0.52, 2000: 0.6, 8000: 0.7},
        "refusals": {"one": None, "several": "barrier"},
    }
    return Trial(**given | changed)


def verdicts(given: Trial) -> dict[str, bool]:
    claims = overoptimisation_report.summary([given, given])["criteria"]
    assert [claim["claim"] for claim in claims] == list(CRITERIA)
    return {claim["claim"]: claim["reproduced"] for claim in claims}


def failed(given: Trial) -> list[str]:
    return [name for name, met in verdicts(given).items() if not met]


def test_claims_are_judged_by_their_criteria():
    assert failed(trial()) == []
    turned = run("gold")
    assert failed(trial(gold=turned)) == ["control: gold"]
    wrong = {"one": "barrier", "several": "barrier"}
    assert failed(trial(refusals=wrong)) == ["control: refusal"]
    assert failed(trial(accuracy={500: 0.6, 2000: 0.6, 8000: 0.7})) == ["(iii) near chance"]
    good = trial().sized
    swapped = {500: good[500], 2000: good[8000], 8000: good[2000]}
    assert failed(trial(sized=swapped)) == ["(iii) more data"]


@pytest.mark.parametrize(
    ("replaced", "missed"),
    [
        (run("single", beta=0.3, believed=0.9), ["control: penalty", "control: no collapse"]),
        (run("mean", beta=0.3), ["control: no collapse"]),
        (run("soup", family="several", beta=0.3), []),
        (run("uncertainty, λ 2", family="several", growth=5.0), ["(iv) UWO, several"]),
        (run("single", growth=0.9, believed=0.9), ["(iv) growth, one"]),
        (run("single", believed=0.4), ["(v) herding"]),
        (
            run("single", gold=2 * D, believed=0.9),
            ["(i) gold turns over", "(ii) the form"],
        ),
    ],
)
def test_a_run_that_is_not_as_claimed(replaced: Run, missed: list[str]):
    def same(one: Run) -> bool:
        names = "family", "method", "kl_coefficient"
        return all(getattr(one, name) == getattr(replaced, name) for name in names)

    given = trial()
    runs = [replaced if same(one) else one for one in given.runs]
    assert failed(trial(runs=runs)) == missed


def test_what_does_not_help_is_said():
    turned_over, ends, peaks, penalty = overoptimisation_report.summary([trial()])["does_not_help"]
    assert turned_over.endswith("uncertainty, λ 2 (several)")
    assert ends.count("(one)") == peaks.count("(one)") == len(METHODS) - 1
    assert "gold ends at 3.00 [3.00, 3.00] with β 0.3" in penalty


def test_the_whole_of_it_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = Making(members=2, pairs=60, pretraining_steps=5, tuning_steps=5)
    config = Config(out=str(tmp_path), seeds=1, models=small, sizes=(20, 40), held_out=50, steps=50)
    before = torch.get_rng_state()
    report = overoptimisation.main(config)
    assert torch.equal(torch.get_rng_state(), before)
    written = json.loads((tmp_path / "overoptimisation.json").read_text())
    assert [claim["claim"] for claim in written["criteria"]] == list(CRITERIA)
    assert len(report["methods"]) == 2 * len(FAMILIES) * len(METHODS)
    for name in ("overoptimisation.png", "overoptimisation-more.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "What does not help" in said
    for one in written["curves"]:
        assert one["kl_nats"][0] == pytest.approx(0, abs=1e-5)
        assert one["kl_nats"][-1] > 0.01


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"kl_coefficient": 0.0}, "kl_coefficient is 0.0; it must be above 0"),
        ({"sizes": (500,)}, "give two or more, ascending"),
        ({"sizes": (500, 500)}, "give two or more, ascending"),
        ({"sizes": (0, 500)}, "from 1 on"),
    ],
)
def test_what_cannot_be_compared_is_refused(changed: dict, problem: str):
    with pytest.raises(ValueError, match=problem):
        Config(**changed)
