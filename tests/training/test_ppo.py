"""PPO end to end: what it learns, that a run stopped anywhere is the run, and that it makes no difference where the
rewards come from."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pico_ppo
import pico_tokenizers
import pytest
import torch
import two_processes
from doors import open_doors
from pico_ppo import Rewarding, blue, nothing
from server_process import serving
from stopping import Killed, Stopping

from tureen.contracts import ScoreRequest
from tureen.model.schema import SchemaError, decode
from tureen_training import cli, oracle, ppo, resume
from tureen_training.oracle import OracleUnavailable, RemoteOracle, Unscorable
from tureen_training.policies import TinySpec, load_policy, save_policy, tiny_policy
from tureen_training.runlog import RunLog
from tureen_training.watch import Threshold

LEARNING: dict[str, Any] = {"steps": 12, "responses_per_step": 32, "kl_coefficient": 0.01}
EVERYTHING: dict[str, Any] = {
    "steps": 5,
    "samples_per_prompt": 2,
    "kl_target_nats_per_response": 0.1,
    "kl_horizon_responses": 50,
    "whiten_rewards": True,
    "value_warmup_steps": 1,
    "tax_steps": 2,
    "snapshot_steps": 4,
    "averages": (0.5,),
    "thresholds": (
        Threshold(figure="kl/k1_nats_per_response", above=0.05, times=2, action="raise_kl"),
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return pico_ppo.directory(tmp_path_factory.mktemp("ppo"))


def everything(root: Path) -> dict[str, Any]:
    text, cloze = (str(root / name) for name in ("text.jsonl", "cloze.jsonl"))
    return EVERYTHING | {"replay": (text,), "tax_text": (text,), "tax_cloze": (cloze,)}


def share_of_blue(root: Path, name: str) -> float:
    """Of the words that the last three steps wrote."""
    files = sorted((root / f"{name}.run" / "responses").iterdir())[-3:]
    words = [w for file in files for r in pico_ppo.read(file) for w in r["text"].split()]
    return words.count("blue") / len(words)


@pytest.mark.slow
def test_what_is_rewarded_becomes_more_frequent_and_without_reward_it_does_not(root: Path):
    """One word of eight begins at about 1/8."""
    rewarded = pico_ppo.run(root, "rewarded", Rewarding(blue), **LEARNING)
    pico_ppo.run(root, "unrewarded", Rewarding(nothing), **LEARNING)
    assert share_of_blue(root, "rewarded") > 0.35
    assert share_of_blue(root, "unrewarded") < 0.2
    means = [step["reward/mean"] for step in rewarded]
    assert sum(means[-3:]) > 3 * sum(means[:3])
    assert rewarded[0]["kl/k1_nats_per_response"] == pytest.approx(0, abs=1e-5)
    assert rewarded[0]["update/ratio"] == pytest.approx(1, abs=0.05)


def test_a_reward_at_the_end_is_the_same_in_sum(root: Path):
    dense, sparse = Rewarding(blue), Rewarding(blue)
    [first] = pico_ppo.run(root, "dense", dense, steps=1)
    [second] = pico_ppo.run(root, "sparse", sparse, steps=1, dense=False)
    assert all(sample.offsets is not None for sample in dense.asked)
    assert all(sample.offsets is None for sample in sparse.asked)
    assert first["reward/mean"] == second["reward/mean"]
    assert first["update/policy"] != second["update/policy"]


@pytest.mark.slow
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(root: Path, monkeypatch):
    """Adaptive KL, alarms, replay, tax, snapshots and all: stopped before every ninth thing it does, six times, and
    once by an outage."""
    config = everything(root)
    pico_ppo.run(root, "whole", Rewarding(blue), **config)
    stopping = Stopping(every=9, most=6)
    with monkeypatch.context() as patch:
        for name in ("respond", "improve", "save_policy", "write_facts"):
            patch.setattr(ppo, name, stopping(getattr(ppo, name)))
        patch.setattr(resume, "save_file", stopping(resume.save_file))
        patch.setattr(RunLog, "write", stopping(RunLog.write))
        outages = 0
        while True:
            try:
                available = 1 if stopping.stops >= 2 and not outages else math.inf
                pico_ppo.run(root, "stopped", Rewarding(blue, available=available), **config)
                break
            except Killed:
                continue
            except OracleUnavailable:
                outages += 1
    assert stopping.stops == 6
    assert outages == 1
    assert pico_ppo.events(root, "stopped") == pico_ppo.events(root, "whole")
    for name in ("", "-average-0.5", ".run/snapshots/000004"):
        first, second = (load_policy(root / f"{run}{name}") for run in ("whole", "stopped"))
        assert first.lineage == second.lineage
        for key, tensor in first.model.state_dict().items():
            assert torch.equal(tensor, second.model.state_dict()[key]), (name, key)
    kinds = {record["event"] for record in pico_ppo.events(root, "whole")}
    assert kinds == {"oracle", "data", "tax", "step", "alarm", "end", "average"}
    assert not (root / "stopped.run" / "state").exists()


class InProcess:
    """The reward model in this process, behind the trainer's interface."""

    def __init__(self, doors: Any) -> None:
        self.fingerprint, self.swaps, self._doors = "", [], doors

    def submit(self, samples) -> Future:
        answer = self._doors.call(
            self._doors.scorer.score(
                ScoreRequest(samples=tuple(samples), uncertainty=True, segments=False)
            )
        )
        future: Future = Future()
        future.set_result(
            [
                one.scores[0] if one.scores else Unscorable(one.error.code, one.error.message)
                for one in answer.results
            ]
        )
        return future

    def score(self, samples):
        return self.submit(samples).result()

    def info(self):
        return Rewarding(blue).info()

    def close(self) -> None:
        """The doors are closed by whoever opened them."""


@pytest.mark.slow
@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_step_against_a_server_is_a_step_against_the_model(root: Path, door: str):
    """A process of its own, and the same model in this one: figures and weights to the bit."""
    with open_doors() as doors:
        pico_ppo.run(root, f"near-{door}", InProcess(doors), steps=2)
    with serving("stub") as server:
        config = pico_ppo.config(
            root, f"far-{door}", steps=2, oracle=server.target if door == "grpc" else server.url
        )
        ppo.main(config)
    near, far = (pico_ppo.steps(root, f"{place}-{door}") for place in ("near", "far"))
    assert near == far
    assert near[0]["reward/disagreement"] > 0
    assert {"heads/factuality", "heads/preference"} <= near[0].keys()
    weights = [
        load_policy(root / f"{place}-{door}").model.state_dict() for place in ("near", "far")
    ]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_what_cannot_be_scored_teaches_nothing(root: Path):
    """Responses without a reward: they are counted, and where none has one nothing moves."""

    class Half(Rewarding):
        def _reward(self, sample):
            if len(sample.responses[0]) % 2:
                return Unscorable("input_too_long", "too long")
            return super()._reward(sample)

    class Never(Rewarding):
        def _reward(self, sample):
            return Unscorable("input_too_long", "too long")

    [half] = pico_ppo.run(root, "half", Half(blue), steps=1)
    assert 0 < half["oracle/unscorable_frac"] < 1
    by_code = {name: share for name, share in half.items() if name.startswith("oracle/unscorable/")}
    assert "oracle/unscorable/input_too_long" in by_code  # and responses that are blank, if any
    assert sum(by_code.values()) == pytest.approx(half["oracle/unscorable_frac"])
    steps = pico_ppo.run(root, "never", Never(blue), steps=9)
    assert len(steps) == 3  # a threshold stops the run
    assert all("reward/mean" not in step and "update/policy" not in step for step in steps)
    first, last = (load_policy(root / name) for name in ("policy", "never"))
    assert last.lineage["stopped"] == "oracle/unscorable_frac is 1"
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, last.model.state_dict()[name]), name


def test_an_outage_is_one_line_and_the_state_is_kept(root: Path, monkeypatch, capsys):
    monkeypatch.setattr(oracle, "RemoteOracle", lambda *_, **__: Rewarding(blue, available=3))
    options = {"prompts": [str(root / "prompts.jsonl")], "chunks": 2, "steps": 3, "epochs": 1}
    arguments = ["--policy", str(root / "policy"), "--out", str(root / "cut")]
    arguments += [a for name, value in options.items() for a in (f"--{name}", str(value))]
    small = ["--max-new-tokens", "4", "--responses-per-step", "8", "--minibatches", "1"]
    assert cli.main(["ppo", *arguments, *small]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tureen-train ppo: Nobody answers. The run stopped before step 2")
    assert resume.read_record(root / "cut.run" / "state")["step"] == 1  # pyright: ignore[reportOptionalSubscript]
    assert len(pico_ppo.steps(root, "cut")) == 1


def test_another_lineage_is_warned_about(root: Path):
    class Stranger(Rewarding):
        def info(self):
            return dataclasses.replace(super().info(), base="elsewhere")

    pico_ppo.run(root, "strange", Stranger(blue), steps=1)
    [warning] = [r for r in pico_ppo.events(root, "strange") if r["event"] == "lineage"]
    assert "made from 'elsewhere'" in warning["warning"]
    pico_ppo.run(root, "kin", Rewarding(blue), steps=1)
    assert all(r["event"] != "lineage" for r in pico_ppo.events(root, "kin"))


def test_a_policy_with_a_chat_template(tmp_path: Path):
    """A small Llama that reads messages; its responses are bytes of any kind."""
    tokenizer = pico_tokenizers.chat()
    tokenizer.padding_side = "left"
    spec = TinySpec(layers=1, width=32, heads=2, context_tokens=128)
    save_policy(tiny_policy(spec, tokenizer, seed=0), tmp_path / "policy", {})
    messages = [{"role": "user", "content": "Sky?"}]
    pico_ppo.write(tmp_path / "prompts.jsonl", [{"messages": messages}] * 4)
    oracle = Rewarding(lambda text: float(text.isascii()))
    [step] = pico_ppo.run(tmp_path, "chat", oracle, steps=1)
    assert oracle.asked[0].messages is not None
    assert step["kl/k1_nats_per_response"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"responses_per_step": 9, "samples_per_prompt": 2}, "must be a multiple of"),
        ({"trace": 1.5}, r"trace is 1.5; it must be in \[0, 1\]"),
        ({"averages": [2.0]}, "averages are"),
        ({"thresholds": [{"figure": "reward/mean"}]}, "no limit; give above or below"),
        ({"kl_coeficient": 0.1}, "kl_coeficient is unknown; did you mean 'kl_coefficient'"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], problem: str):
    with pytest.raises(SchemaError, match=problem):
        decode(ppo.Config, {"policy": "p", "out": "o", "prompts": ["q"], **changes})


def test_another_configuration_does_not_go_on(root: Path):
    with pytest.raises(OracleUnavailable):
        pico_ppo.run(root, "other", Rewarding(blue, available=2))
    with pytest.raises(ValueError, match="unfinished run with other clip"):
        pico_ppo.run(root, "other", Rewarding(blue), clip=0.3)
    moved = pico_ppo.config(root, "other", oracle="elsewhere:1", patience_s=1.0)
    ppo.train(moved, Rewarding(blue))  # where the service stands may change
    assert len(pico_ppo.steps(root, "other")) == 4


@pytest.mark.slow
def test_two_processes_share_a_step(root: Path):
    """Each samples its half of the prompts; figures, replay and the policy are of both."""
    source = (
        "import sys\n"
        "from pathlib import Path\n"
        "import pico_ppo\n"
        "root = Path(sys.argv[1])\n"
        "options = {'steps': 2, 'replay': (str(root / 'text.jsonl'),)}\n"
        "pico_ppo.run(root, 'two', pico_ppo.Rewarding(pico_ppo.blue), **options)\n"
    )
    two_processes.run(root / "two.py", source, root)
    first, second = pico_ppo.steps(root, "two")
    assert first["kl/k1_nats_per_response"] == pytest.approx(0, abs=1e-5)
    assert second["kl/k3_nats_per_response"] > 0
    written = pico_ppo.read(root / "two.run" / "responses" / "000001.jsonl")
    assert len(written) == 16
    assert [one["id"] for one in written].count(pico_ppo.PROMPTS[0]) == 4  # each prompt as often


def test_remote_oracle_takes_what_the_config_says(monkeypatch):
    seen: dict[str, Any] = {}

    class Recorded(RemoteOracle):
        def __init__(self, url: str, **options: Any) -> None:
            seen.update(options, url=url)

        def close(self) -> None: ...

    monkeypatch.setattr(oracle, "RemoteOracle", Recorded)
    monkeypatch.setattr(ppo, "train", lambda config, oracle: None)
    monkeypatch.setenv("KEY", "secret")
    data = {"policy": "p", "out": "o", "prompts": ["q"], "oracle": "a:1", "api_key_env": "KEY"}
    ppo.main(decode(ppo.Config, {**data, "aggregation": "worst_case", "weights": {"a": 1.0}}))
    assert seen["url"] == "a:1"
    assert seen["api_key"] == "secret"
    assert seen["aggregation"] == "worst_case"
    assert seen["weights"] == {"a": 1.0}
    assert "heads" not in seen
