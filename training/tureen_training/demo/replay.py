"""Demo `replay`: what PPO makes a policy forget, and what replay or averaging gives back.

A small language model learns a text of its own (words that follow one another by a fixed chain), facts ("The mate of ba
is do", asked as cloze questions) and the task of `toy`. PPO then optimises the task alone, against an ensemble that
learnt from wrong labels too: over KL coefficients β, with replay of text and facts (PPO-ptx, arXiv:2203.02155) and
without. The policy of the smallest β without replay is also averaged with its start.

The tax is the rise of log-perplexity on held-out text; cloze questions answered stand beside it. Criteria,
written before the run: at every β replay lowers the tax, interval clear of 0, at a gold at most 0.3 lower; no β without
replay has both the tax and the gold of some run with it; replay of the same words in random order, the control, leaves
at least half of the tax.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tureen.model.files import write_atomically
from tureen_training import plots, ppo
from tureen_training.demo.toy import LENGTH, VOCABULARY, World
from tureen_training.demo.toy_language import (
    SMALL,
    WORDS,
    ToyOracle,
    imitate,
    interval,
    judged,
    texts,
    write_prompts,
)
from tureen_training.demo.toy_rewards import Making
from tureen_training.policies import TinySpec, load_policy
from tureen_training.runlog import progress
from tureen_training.worlds.almanac.dataset import write_jsonl

CHOICES: Final = 4
LEAST_GOLD: Final = 0.3
"""How much less gold is still called comparable."""
CONTROL: Final = "shuffled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """PPO over KL coefficients, with and without replay.

    out: directory of replay.json, replay.png and of each seed's runs. seeds: how many, from first_seed on.
    models: how the reward models are made. policy: size of the language model.
    lines: of text to learn from; demonstrations: of the task. judged: responses by which a policy is judged.
    kl_coefficients: β; replay_weight: γ of the runs with replay. averages: shares of the trained policy.
    """

    out: str = "runs/replay-demo"
    seeds: int = 3
    first_seed: int = 0
    models: Making = field(default_factory=Making)
    policy: TinySpec = SMALL
    lines: int = 2000
    demonstrations: int = 2000
    sft_epochs: int = 4
    steps: int = 60
    responses_per_step: int = 64
    learning_rate: float = 5e-4
    kl_coefficients: tuple[float, ...] = (0.0, 0.1, 0.3)
    replay_weight: float = 1.0
    averages: tuple[float, ...] = (0.25, 0.5, 0.75)
    judged: int = 512


def main(config: Config) -> dict[str, Any]:
    """Run, judge, write; returns the report."""
    torch.set_num_threads(1)
    out = Path(config.out)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    found = [of_seed(config, out / f"seed-{seed}", seed) for seed in progress(seeds, "seeds")]
    report = {"config": dataclasses.asdict(config), "runs": found, **concluded(config, found)}
    write_atomically(out / "replay.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(config, found, out / "replay.png")
    show(report, Console(), out)
    return report


def of_seed(config: Config, out: Path, seed: int) -> list[dict[str, Any]]:
    """One world, its policy, and what each run of PPO made of it."""
    shutil.rmtree(out, ignore_errors=True)
    world = World(seed)
    oracle = ToyOracle(world, seed, config.models)
    write_prompts(out, 64)
    write_corpus(out, config.lines, seed)
    write_jsonl(out / "task.jsonl", texts(world, config.demonstrations))
    files = [out / name for name in ("text.jsonl", "task.jsonl")]
    imitate(files, out, "start", config.policy, config.sft_epochs, seed)
    found: list[dict[str, Any]] = []
    for number, (beta, replay) in enumerate(arms(config)):
        place = out / f"beta-{beta:g}-{replay or 'none'}"
        averages = config.averages if number == 0 else ()
        stage = ppo.Config(
            policy=str(out / "start"),
            out=str(place),
            prompts=(str(out / "prompts.jsonl"),),
            dense=False,
            steps=config.steps,
            responses_per_step=config.responses_per_step,
            max_new_tokens=LENGTH + 1,
            kl_coefficient=beta,
            epochs=2,
            learning_rate=config.learning_rate,
            value_learning_rate=1e-3,
            replay=(str(out / f"{replay}.jsonl"),) if replay else (),
            replay_weight=config.replay_weight,
            tax_text=(str(out / "held-out.jsonl"),),
            tax_cloze=(str(out / "cloze.jsonl"),),
            tax_steps=config.steps,
            averages=averages,
            thresholds=(),
            rows_per_forward=config.responses_per_step,
            seed=seed,
            threads=1,
        )
        ppo.train(stage, oracle)
        places = {1.0: place} | {a: out / f"{place.name}-average-{a:g}" for a in averages}
        lost = losses(Path(f"{place}.run/metrics.jsonl"))
        found += [
            {"seed": seed, "kl_coefficient": beta, "replay": replay or "none", "share": share}
            | judged(load_policy(policy), world, oracle, config.judged, seed)
            | lost[share]
            for share, policy in places.items()
        ]
    return found


def losses(log: Path) -> dict[float, dict[str, float]]:
    """What a run of PPO lost, by the share of the trained policy in the average: 1 is itself."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    start, *_, end = [record for record in records if record["event"] == "tax"]
    after = {record["share"]: record for record in records if record["event"] == "average"}
    last = [record for record in records if record["event"] == "step"][-1]
    return {
        share: {
            "kl_nats": last["kl/k1_nats_per_response"],
            "tax_nats": float(np.log(record["perplexity"] / start["perplexity"])),
            "cloze": record["cloze"]["value"],
            "cloze_before": start["cloze"]["value"],
        }
        for share, record in {1.0: end, **after}.items()
    }


def arms(config: Config) -> Iterator[tuple[float, str]]:
    """β and what is replayed, of every run; the first is averaged, the last is the control."""
    for beta in config.kl_coefficients:
        yield beta, ""
        yield beta, "text"
    yield config.kl_coefficients[0], CONTROL


def write_corpus(out: Path, lines: int, seed: int) -> None:
    """text.jsonl: lines of the chain and facts; shuffled.jsonl: their words in random order; held-out.jsonl: further
    lines of the chain; cloze.jsonl: the facts as questions."""
    draw = random.Random(f"{seed}:corpus")
    after = {word: draw.sample(WORDS, 3) for word in WORDS}
    mates = dict(zip(WORDS, draw.sample(WORDS, VOCABULARY), strict=True))

    def line() -> str:
        words = [draw.choice(WORDS)]
        while len(words) < LENGTH:
            words.append(draw.choice(after[words[-1]]))
        return " ".join(words)

    facts = [f"The mate of {word} is {mate}" for word, mate in mates.items()]
    told = [line() for _ in range(lines)] + facts * (lines // (4 * VOCABULARY) + 1)
    draw.shuffle(told)
    mixed = [" ".join(draw.sample(text.split(), len(text.split()))) for text in told]
    for name, own in (("text", told), (CONTROL, mixed), ("held-out", [line() for _ in range(200)])):
        write_jsonl(out / f"{name}.jsonl", [{"text": text} for text in own])
    questions = []
    for word, mate in mates.items():
        others = draw.sample([one for one in WORDS if one != mate], CHOICES - 1)
        choices = draw.sample([mate, *others], CHOICES)
        question = {"prompt": f"The mate of {word} is", "answer": mate, "choices": choices}
        questions.append(question)
    write_jsonl(out / "cloze.jsonl", questions)


def concluded(config: Config, found: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Differences with − without replay at each β over seeds, and what became of the criteria."""

    def of(runs: Sequence[dict[str, Any]], beta: float, replay: str) -> dict[str, Any]:
        return next(
            run
            for run in runs
            if (run["kl_coefficient"], run["replay"], run["share"]) == (beta, replay, 1.0)
        )

    differences = []
    for beta in config.kl_coefficients:
        pairs = [(of(runs, beta, "text"), of(runs, beta, "none")) for runs in found]
        names = ("tax_nats", "cloze", "gold")
        differences.append(
            {"kl_coefficient": beta}
            | {name: interval([one[name] - other[name] for one, other in pairs]) for name in names}
        )

    def dominated(runs: Sequence[dict[str, Any]]) -> bool:
        """Some run with replay has less tax and more gold than every one without."""
        plain = [of(runs, beta, "none") for beta in config.kl_coefficients]
        replayed = [of(runs, beta, "text") for beta in config.kl_coefficients]
        return any(
            all(one["tax_nats"] < p["tax_nats"] or one["gold"] > p["gold"] for p in plain)
            for one in replayed
        )

    smallest = config.kl_coefficients[0]
    control = [
        of(runs, smallest, CONTROL)["tax_nats"] / of(runs, smallest, "none")["tax_nats"]
        for runs in found
    ]
    return {
        "differences": differences,
        "control_tax_left": interval(control),
        "criteria": {
            "replay lowers the tax at every β": all(d["tax_nats"]["high"] < 0 for d in differences),
            "at comparable gold": all(d["gold"]["value"] >= -LEAST_GOLD for d in differences),
            "no β without it does both": all(dominated(runs) for runs in found),
            "shuffled text leaves at least half of the tax": float(np.mean(control)) >= 0.5,
        },
    }


def draw(config: Config, found: Sequence[Sequence[dict[str, Any]]], path: Path) -> None:
    """Tax against gold: β without replay, β with it, and the averages."""
    figure, axes = plots.figure("gold", "tax: rise of log-perplexity, nats per token")
    kinds = {
        "without replay, over β": ("none", "o-", "tab:orange"),
        "with replay, over β": ("text", "s-", "tab:blue"),
        "control: shuffled text": (CONTROL, "x", "tab:red"),
    }
    for runs in found:
        last = runs is found[-1]
        for label, (replay, style, colour) in kinds.items():
            own = [run for run in runs if run["replay"] == replay and run["share"] == 1]
            x, y = ([run[name] for run in own] for name in ("gold", "tax_nats"))
            axes.plot(x, y, style, color=colour, alpha=0.6, label=label if last else None)
        own = [run for run in runs if run["share"] < 1]
        x, y = ([run[name] for run in own] for name in ("gold", "tax_nats"))
        label = "averaged with the start" if last else None
        axes.plot(x, y, "^:", color="tab:green", alpha=0.6, label=label)
    plots.save(figure, path)


def show(report: dict[str, Any], console: Console, out: Path) -> None:
    table = Table("β", "replay", "share", "gold", "tax, nats", "cloze", "KL, nats")
    by_arm: dict[tuple[float, str, float], list[dict[str, Any]]] = {}
    for run in (run for runs in report["runs"] for run in runs):
        by_arm.setdefault((run["kl_coefficient"], run["replay"], run["share"]), []).append(run)
    for (beta, replay, share), own in by_arm.items():
        means = (np.mean([run[n] for run in own]) for n in ("gold", "tax_nats", "cloze", "kl_nats"))
        table.add_row(f"{beta:g}", replay, f"{share:g}", *(f"{mean:.2f}" for mean in means))
    console.print(table)
    for name, met in report["criteria"].items():
        console.print(f"{name}: {'met' if met else 'NOT MET'}")
    console.print(f"front: {out / 'replay.png'}, figures: {out / 'replay.json'}")
