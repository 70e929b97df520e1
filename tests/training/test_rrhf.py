"""RRHF end to end: it becomes better than those it learns from, and a run stopped anywhere is the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pico_ppo
import pytest
import torch
import two_processes
from pico_ppo import Rewarding, blue
from pico_rrhf import OFFLINE, ONLINE, config, events, of, run
from server_process import serving
from stopping import Killed, Stopping

from tureen.model.schema import SchemaError, decode
from tureen_training import cli, resume, rrhf, rrhf_rounds
from tureen_training.oracle import OracleUnavailable, SoupSwapped, Unscorable
from tureen_training.policies import load_policy
from tureen_training.rrhf import Config, packed, train
from tureen_training.rrhf_rounds import Row
from tureen_training.runlog import RunLog
from tureen_training.watch import Threshold

RECIPES = Path(__file__).parents[2] / "training/recipes/rrhf"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Three policies, of which one says blue every second time, one every eighth and one never."""
    root = pico_ppo.directory(tmp_path_factory.mktemp("rrhf"))
    pico_ppo.policy(root / "good", "blue blue blue red green sky")
    pico_ppo.policy(root / "mixed")
    pico_ppo.policy(root / "bad", "red green the is")
    return root


@pytest.mark.slow
def test_it_becomes_better_than_those_it_learns_from(root: Path):
    """Blue words are rewarded; the best of three sources is the one that says it most."""
    prompts = (str(root / "prompts.jsonl"),)
    options = {"epochs": 24, "validation": prompts * 8, "validation_steps": 100}
    found = run(root, "better", Rewarding(blue), **OFFLINE | options | {"samples_per_source": 4})
    [candidates] = of(found, "candidates")
    sources = {Path(name).name: own for name, own in candidates["sources"].items()}
    assert sources["good"]["reward"] > sources["mixed"]["reward"] > sources["bad"]["reward"]
    assert sources["good"]["best"] > sources["bad"]["best"]
    first, last = of(found, "validation")
    assert last["reward/mean"] > sources["good"]["reward"] > first["reward/mean"]
    steps = of(found, "step")
    assert steps[-1]["rank/misordered"] < steps[0]["rank/misordered"]
    assert steps[-1]["loss/best"] < steps[0]["loss/best"]
    lineage = load_policy(root / "better").lineage
    assert (lineage["stage"], lineage["online"], lineage["stopped"]) == ("rrhf", False, None)


@pytest.mark.slow
def test_online_it_learns_from_what_it_says_itself(root: Path):
    found = run(root, "online", Rewarding(blue), **ONLINE | {"epochs": 12, "samples_per_prompt": 6})
    rounds = of(found, "candidates")
    assert len(rounds) == 6
    assert rounds[0]["kl/k1_nats_per_response"] == pytest.approx(0, abs=1e-5)
    assert rounds[-1]["kl/k1_nats_per_response"] > 0.3
    assert rounds[-1]["reward/mean"] > 2 * rounds[0]["reward/mean"]
    assert set(rounds[-1]["sources"]) == {"policy"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(root: Path, monkeypatch, mode: str):
    prompts = (str(root / "prompts.jsonl"),)
    raised = Threshold(figure="kl/k1_nats_per_response", above=0.02, action="raise_kl")
    options: dict[str, Any] = {"validation": prompts, "validation_steps": 3, "epochs": 7}
    options |= (
        OFFLINE
        if mode == "offline"
        else ONLINE
        | {
            "sources": ("bad",),
            "kl_coefficient": 0.1,
            "thresholds": (raised,),
        }
    )
    whole, stopped = f"whole-{mode}", f"stopped-{mode}"
    expected = run(root, whole, Rewarding(blue), **options)
    outages = 0
    stopping = Stopping(every=7, most=6)
    with monkeypatch.context() as patch:
        patch.setattr(rrhf, "improve", stopping(rrhf.improve))
        patch.setattr(RunLog, "write", stopping(RunLog.write))
        patch.setattr(resume, "save_file", stopping(resume.save_file))
        for name in ("write_json", "responses_of", "respond"):
            patch.setattr(rrhf_rounds, name, stopping(getattr(rrhf_rounds, name)))
        while True:
            available = 1 if stopping.stops == 2 and not outages else float("inf")
            try:
                run(root, stopped, Rewarding(blue, available=available), **options)
                break
            except Killed:
                continue
            except OracleUnavailable:
                outages += 1
    assert stopping.stops == 6
    assert outages == 1
    assert events(root, stopped) == expected
    if mode == "online":
        assert of(expected, "alarm")
        assert of(expected, "candidates")[-1]["kl/coefficient"] > 0.1
    first, second = (load_policy(root / name) for name in (whole, stopped))
    assert first.lineage == second.lineage
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[key]), key


def test_several_prompts_a_forward_pass_are_each_alone(root: Path):
    """Rows of 2, 6 and 24 in one pass: padding, packing and neighbours change nothing but the last digits."""
    path = root / "six.jsonl"
    responses = ["blue", "red sea", "the is blue", "green", "white red blue is", "sky"]
    pico_ppo.write(path, [{"prompt": p, "responses": responses} for p in pico_ppo.PROMPTS])
    losses = []
    for rows in (2, 12, 24):
        options = {"prompts": (str(path),), "epochs": 1, "rows_per_forward": rows}
        [step] = of(run(root, f"rows-{rows}", Rewarding(blue), **options), "step")
        losses.append([step[name] for name in ("loss/rank", "loss/best", "rank/pairs")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][2] == 9  # three of six say blue


def test_prompts_are_packed_whole():
    def group(size: int) -> list[Row]:
        return [Row(None, 0.0, 0.0)] * size  # pyright: ignore[reportArgumentType]

    packs = packed([group(n) for n in (3, 3, 3, 9, 1)], 6)
    assert [[len(one) for one in pack] for pack in packs] == [[3, 3], [3], [9], [1]]


def test_what_cannot_be_scored_teaches_nothing(root: Path):
    class Half(Rewarding):
        def _reward(self, sample):
            if len(sample.responses[0]) % 2:
                return Unscorable("input_too_long", "too long")
            return super()._reward(sample)

    found = run(root, "half", Half(blue), **OFFLINE | {"epochs": 1})
    [candidates], [step] = of(found, "candidates"), of(found, "step")
    assert 0 < candidates["oracle/unscorable_frac"] < 1
    assert candidates["learnable"] == round(
        candidates["candidates"] * (1 - candidates["oracle/unscorable_frac"])
    )
    assert step["rank/pairs"] >= 0

    class Never(Rewarding):
        def _reward(self, sample):
            return Unscorable("input_too_long", "too long")

    found = run(root, "never", Never(blue), **OFFLINE | {"epochs": 2})
    assert [set(one) for one in of(found, "step")] == [{"event", "step"}] * 2
    assert not [name for one in of(found, "candidates") for name in one if name == "reward/mean"]
    first, last = (load_policy(root / name) for name in ("policy", "never"))
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, last.model.state_dict()[name]), name


def test_a_threshold_stops_the_run(root: Path):
    silent = Threshold(figure="reward/mean", above=-1.0, action="stop")
    found = run(root, "stopping", Rewarding(blue), **ONLINE | {"thresholds": (silent,)})
    assert of(found, "step") == []
    assert of(found, "end")[0]["stopped"].startswith("reward/mean is")


def test_people_s_responses_are_candidates(root: Path):
    path = root / "people.jsonl"
    records = [
        {"prompt": p, "responses": ["blue blue", "red"], "sources": ["ann", "bob"]}
        for p in pico_ppo.PROMPTS
    ]
    pico_ppo.write(path, records)
    found = run(root, "people", Rewarding(blue), prompts=(str(path),), epochs=1)
    [candidates], [step] = of(found, "candidates"), of(found, "step")
    assert candidates["sources"] == {
        "ann": {"reward": 2.0, "best": 1.0},
        "bob": {"reward": 0.0, "best": 0.0},
    }
    assert step["rank/pairs"] == 1.0


def test_a_swap_of_the_soup_is_logged_or_refused(root: Path):
    class Swapped(Rewarding):
        """Other weights from the second request on."""

        def submit(self, samples):
            if self.asked:
                self.fingerprint = "sha256:other"
            return super().submit(samples)

    found = run(root, "swapped", Swapped(blue), **ONLINE | {"epochs": 2})
    [swap] = of(found, "swap")
    assert (swap["old"], swap["new"]) == ("sha256:toy", "sha256:other")

    class Refusing(Rewarding):
        def submit(self, samples):
            future = super().submit(samples)
            if len(self.asked) > 20:
                future = type(future)()
                future.set_exception(SoupSwapped("on_swap is 'refuse'."))
            return future

    with pytest.raises(SoupSwapped, match="with its state in"):
        run(root, "refused", Refusing(blue), **ONLINE | {"epochs": 8})
    assert (root / "refused.run" / "state").is_dir()


@pytest.mark.slow
def test_against_a_server_process(root: Path):
    """Over the command line: the stub rewards all but what is blank."""
    with serving("stub") as server:
        arguments = ["--policy", str(root / "policy"), "--out", str(root / "served")]
        arguments += ["--prompts", json.dumps([str(root / "prompts.jsonl")]), "--epochs", "2"]
        arguments += ["--sources", json.dumps([str(root / n) for n in ("good", "bad")])]
        arguments += ["--oracle", server.target, "--max-new-tokens", "6", "--prompts-per-step", "4"]
        assert cli.main(["rrhf", *arguments]) == 0
    found = events(root, "served")
    [path] = (root / "served.run/rounds").iterdir()
    scored = [
        (text.strip() != "", reward is not None)
        for prompt in json.loads(path.read_text())["prompts"]
        for text, reward in zip(prompt["responses"], prompt["rewards"], strict=True)
    ]
    assert any(rewarded for _, rewarded in scored)
    assert all(said == rewarded for said, rewarded in scored)
    [candidates] = of(found, "candidates")
    assert candidates["learnable"] == sum(rewarded for _, rewarded in scored)
    assert len(of(found, "step")) == 2
    assert load_policy(root / "served").lineage["steps"] == 2


@pytest.mark.slow
def test_two_processes_share_a_round(root: Path):
    source = (
        "import sys\n"
        "from pathlib import Path\n"
        "import pico_ppo\n"
        "import pico_rrhf\n"
        "root = Path(sys.argv[1])\n"
        "options = pico_rrhf.ONLINE | {'sources': ('bad',), 'epochs': 3}\n"
        "options['validation'] = (str(root / 'prompts.jsonl'),)\n"
        "pico_rrhf.run(root, 'two', pico_ppo.Rewarding(pico_ppo.blue), **options)\n"
    )
    two_processes.run(root / "two.py", source, root)
    found = events(root, "two")
    assert [one["prompts"] for one in of(found, "candidates")] == [4, 4]
    alone = run(root, "one", Rewarding(blue), **ONLINE | {"sources": ("bad",), "epochs": 3})
    first, second = of(found, "step")[0], of(alone, "step")[0]
    for name in ("loss/rank", "loss/best", "rank/pairs"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"kl_coefficient": 0.1}, "offline candidates are ranked once"),
        (
            {"thresholds": [{"figure": "reward/mean", "above": 1.0, "action": "raise_kl"}]},
            "which offline there is none of",
        ),
        ({"rank_wieght": 0.1}, "did you mean 'rank_weight'"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], problem: str):
    with pytest.raises(SchemaError, match=problem):
        decode(Config, {"policy": "p", "out": "o", "prompts": ["q"], **changes})


@pytest.mark.parametrize("recipe", ["offline", "online"])
def test_the_recipes_are_configurations(recipe: str):
    found = cli.configuration(Config, ["--config", str(RECIPES / f"{recipe}.yaml")])
    assert found.online == (recipe == "online")


def test_without_candidates_there_is_nothing_to_rank(root: Path):
    with pytest.raises(ValueError, match="no prompt has two candidates"):
        train(config(root, "none"), Rewarding(blue))
