"""Demo `rrhf`: candidates of three policies of different quality, ranked, make one that beats the best of them.

The task is that of `toy`, its sequences of sixteen tokens written by small language models: one that imitates usual
sequences, three that imitate good, mixed and bad ones by gold. Rewards come from an ensemble that learnt from labels of
which a quarter is wrong, and gold from the task itself, which no stage sees.

Offline, RRHF ranks the three policies' candidates. Online, it ranks what the policy itself just said: without a penalty
the published pattern is a reward that rises while fluency and diversity go (OP-32 in arXiv:2304.05302: reward 0.34 at
perplexity 63.8, "That sounds great! Thanks"; with a KL penalty of 0.01 −0.86 at 19.8).

Criteria, written before the run: gold of the offline policy above that of the best source, interval clear of 0; online
without a penalty gold ends below its peak and an alarm of the shipped thresholds goes off; with one, none does.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from tureen.model.files import write_atomically
from tureen_training import plots, rrhf
from tureen_training.demo.toy import LENGTH, World
from tureen_training.demo.toy_language import (
    SMALL,
    ToyOracle,
    imitate,
    interval,
    judged,
    sequences_of,
    texts,
    write_prompts,
)
from tureen_training.demo.toy_rewards import Making
from tureen_training.policies import TinySpec, load_policy
from tureen_training.runlog import progress
from tureen_training.worlds.almanac.dataset import write_jsonl

SOURCES: Final = {"good": 6, "mixed": 1, "bad": -6}
"""The best by gold of so many usual sequences is imitated; of a negative number, the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Rank candidates of three policies, and of one's own.

    out: directory of rrhf.json, rrhf.png and of each seed's policies and runs. seeds: how many, from first_seed on.
    models: how the reward models are made. policy: size of the language models.
    texts: that each of them imitates. prompts: of training; judged: responses by which a policy is judged.
    online_steps, kl_coefficient: of the online runs; the latter of the one with a penalty.
    """

    out: str = "runs/rrhf-demo"
    seeds: int = 3
    first_seed: int = 0
    models: Making = field(default_factory=Making)
    policy: TinySpec = SMALL
    texts: int = 2000
    sft_epochs: int = 3
    prompts: int = 256
    epochs: float = 6.0
    samples_per_source: int = 2
    judged: int = 512
    online_steps: int = 60
    online_prompts: int = 16
    learning_rate: float = 1e-3
    kl_coefficient: float = 0.3


def main(config: Config) -> dict[str, Any]:
    """Run, judge, write; returns the report."""
    torch.set_num_threads(1)
    out = Path(config.out)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    found = [of_seed(config, out / f"seed-{seed}", seed) for seed in progress(seeds, "seeds")]
    gains = [one["gold"]["offline"] - one["gold"]["best source"] for one in found]
    report = {
        "config": dataclasses.asdict(config),
        "gain": interval(gains),
        "seeds": found,
        "criteria": {
            "the offline policy beats the best source": interval(gains)["low"] > 0,
            "online without a penalty gold falls from its peak": all(
                one["online"]["gold"][-1] < max(one["online"]["gold"]) for one in found
            ),
            "and an alarm goes off": all(one["online"]["alarms"] for one in found),
            "online with a penalty none does": not any(one["penalised"]["alarms"] for one in found),
        },
    }
    write_atomically(out / "rrhf.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(found, out / "rrhf.png")
    show(report, Console(), out)
    return report


def of_seed(config: Config, out: Path, seed: int) -> dict[str, Any]:
    """One world: its policies, reward models and three runs of RRHF."""
    shutil.rmtree(out, ignore_errors=True)
    world = World(seed)
    oracle = ToyOracle(world, seed, config.models)
    write_prompts(out, config.prompts)
    for name, of in {"usual": 1, **SOURCES}.items():
        write_jsonl(out / f"{name}.jsonl", texts(world, config.texts, of))
        imitate((out / f"{name}.jsonl",), out, name, config.policy, config.sft_epochs, seed)

    common: dict[str, Any] = {
        "policy": str(out / "usual"),
        "prompts": (str(out / "prompts.jsonl"),),
        "max_new_tokens": LENGTH + 1,
        "learning_rate": config.learning_rate,
        "seed": seed,
        "threads": 1,
    }
    offline = rrhf.Config(
        out=str(out / "offline"),
        sources=tuple(str(out / name) for name in SOURCES),
        samples_per_source=config.samples_per_source,
        epochs=config.epochs,
        prompts_per_step=32,
        **common,
    )
    rrhf.train(offline, oracle)
    policies = {
        name: judged(load_policy(out / name), world, oracle, config.judged, seed)
        for name in ("usual", *SOURCES, "offline")
    }
    runs = {}
    for name, beta in (("online", 0.0), ("penalised", config.kl_coefficient)):
        online = rrhf.Config(
            out=str(out / name),
            resample_steps=1,
            samples_per_prompt=8,
            kl_coefficient=beta,
            epochs=config.online_steps * config.online_prompts / config.prompts,
            prompts_per_step=config.online_prompts,
            **common,
        )
        rrhf.train(online, oracle)
        runs[name] = followed(out / f"{name}.run", world)
    return {
        "seed": seed,
        "policies": policies,
        "gold": {
            "offline": policies["offline"]["gold"],
            "best source": max(policies[name]["gold"] for name in SOURCES),
        },
        **runs,
    }


def followed(run: Path, world: World) -> dict[str, Any]:
    """The course of an online run: gold of what the policy wrote in each round, which nothing in it saw."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rounds = [record for record in records if record["event"] == "candidates"]
    gold = []
    for path in sorted((run / "responses").iterdir()):
        said = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        gold.append(float(world.gold(torch.tensor(sequences_of(said))).mean()))
    names = {
        "reward": "reward/mean",
        "kl_nats": "kl/k1_nats_per_response",
        "perplexity": "reference/perplexity",
        "distinct_2": "diversity/distinct_2",
        "disagreement": "reward/disagreement",
    }
    alarms = [record for record in records if record["event"] == "alarm"]
    return {
        "step": [record["step"] for record in rounds],
        "gold": gold,
        **{name: [r.get(figure) for r in rounds] for name, figure in names.items()},
        "alarms": [{"step": one["step"], "figure": one["figure"]} for one in alarms],
    }


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    figure, panels = plots.panels(2)
    titles = {"online": "online, no penalty", "penalised": "online, with a penalty"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        axes.set(xlabel="step", ylabel="mean of the policy's own candidates", title=title)
        for one in found:
            run, last = one[name], one is found[-1]
            for curve, colour in (("reward", "tab:orange"), ("gold", "tab:blue")):
                label = curve if last else None
                axes.plot(run["step"], run[curve], color=colour, alpha=0.7, label=label)
            if run["alarms"]:
                axes.axvline(run["alarms"][0]["step"], color="tab:red", linestyle=":")
    plots.save(figure, path)


def show(report: dict[str, Any], console: Console, out: Path) -> None:
    table = Table(
        "seed", *("usual", *SOURCES, "offline"), "online: peak, end", "alarm", "penalised"
    )
    for one in report["seeds"]:
        online, penalised = one["online"], one["penalised"]
        alarm = online["alarms"][0] if online["alarms"] else None
        table.add_row(
            str(one["seed"]),
            *(f"{policy['gold']:.2f}" for policy in one["policies"].values()),
            f"{max(online['gold']):.2f}, {online['gold'][-1]:.2f}",
            f"{alarm['figure']} at {alarm['step']}" if alarm else "none",
            f"{penalised['gold'][-1]:.2f}",
        )
    console.print("Gold of each policy:", table)
    gain = report["gain"]
    console.print(
        f"offline − best source: {gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
    )
    for name, met in report["criteria"].items():
        console.print(f"{name}: {'met' if met else 'NOT MET'}")
    console.print(f"curves: {out / 'rrhf.png'}, figures: {out / 'rrhf.json'}")
