"""The whole loop, small: every stage for real, the server a process of its own."""

import json

import numpy as np
import pytest

from tureen_training.demo import loop
from tureen_training.demo.loop import Config
from tureen_training.demo.loop_evaluation import compared
from tureen_training.worlds.almanac.dataset import Sizes
from tureen_training.worlds.almanac.gold import ERRORS

SIZES = Sizes(
    names=12,
    replay=500,
    rehearsal=50,
    sft=1500,
    feedback=30,
    panel=30,
    train=100,
    validation=20,
    test=100,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("loop")
    config = Config(
        out=str(out),
        sizes=SIZES,
        reward_layers=1,
        reward_epochs=1,
        steps=10,
        responses_per_step=32,
        learning_rate=2e-3,
        kl_coefficient=0.0,
        snapshots=1,
        curve_prompts=20,
        threads=1,
    )
    return loop.main(config), out


def test_the_reward_that_ppo_sees_over_the_wire_rises(run):
    report, _ = run
    assert report["reward"]["ppo"]["mean"] > report["reward"]["sft"]["mean"] + 0.1
    assert report["kl"] > 0


def test_the_report_says_everything(run):
    report, out = run
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["errors"]) == set(ERRORS)
    for part in (report, report["greedy"]):
        for figure in (part["gold"], *part["errors"].values()):
            assert figure["change"]["low"] <= figure["change"]["value"] <= figure["change"]["high"]
            assert figure["change"]["value"] == pytest.approx(figure["ppo"] - figure["sft"])
    assert report["prompts"] == 100
    assert set(report["heads"]) == {head.name for head in loop.HEADS}
    assert 0 <= report["wait_share"] < 1
    assert report["tax"]["perplexity"]["sft"] > 1
    assert 0 <= report["tax"]["cloze"]["ppo"]["value"] <= 1
    assert [point["step"] for point in report["curve"]] == [0, 10]
    assert set(report["seconds"]) >= {"sft", "reward models", "ppo", "all"}


def test_the_page_shows_plots_and_coloured_samples(run):
    _, out = run
    page = (out / "report.html").read_text()
    for name in ("kl.png", "errors.png", "heads.png", "disagreement.png"):
        assert f'<img src="{name}"' in page
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "factuality" in page
    assert "background:hsla" in page


def test_the_server_was_a_process_and_said_that_it_left(run):
    _, out = run
    assert "everything admitted was answered" in (out / "server.log").read_text()


def test_policies_are_compared_prompt_by_prompt():
    names = ["score", "perfect_rate", *(f"{error}_rate" for error in ERRORS)]
    before = {name: np.array([1.0, 1.0, 0.0, 0.0]) for name in names}
    after = {name: np.array([1.0, 0.0, 0.0, 0.0]) for name in names}
    after["wrong_facts_rate"] = np.zeros(4)
    found = compared({"sft": before, "ppo": after})
    assert found["gold"]["sft"] == 0.5
    assert found["gold"]["change"]["value"] == -0.25
    assert found["errors"]["unasked_facts"]["ratio"]["value"] == 0.5
    assert found["errors"]["wrong_facts"]["ratio"]["value"] == 0
    none = compared({"sft": after, "ppo": after})
    assert none["errors"]["wrong_facts"]["ratio"] is None
    assert none["prompts"] == 4
