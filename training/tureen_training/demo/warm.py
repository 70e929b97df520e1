"""Demo `warm`: soups forget corrupted labels that ensembles memorise.

WARM (Ramé et al. 2024, arXiv:2401.12187), observation 3, on the task of `toy`: one pretraining, one linearly
probed head, M members that differ in learning rate, dropout and order; their weights averaged (soup) against
their rewards averaged (ensemble). Some training labels are swapped. On swapped training pairs accuracy is
agreement with the wrong label: what was learnt by heart. Negative control: members of different pretrainings,
between which the connectivity check must find a barrier.

Task and model were settled on seeds 100 to 102 (width 48: members get half of the swapped labels right, as
WARM's do); figures are of other seeds, and the criteria of `warm_report` were written before those were run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console

from tureen.errors import IncompatibleSoup
from tureen.model.files import write_atomically
from tureen_training import connectivity
from tureen_training.connectivity import Line, Outcomes, State
from tureen_training.demo import toy
from tureen_training.demo.toy import Member, Pairs, World, margins, won
from tureen_training.demo.warm_report import CLAIMED, PARTS, Interval, draw, judged, show
from tureen_training.runlog import progress

NOISES: Final = (0.0, 0.1, 0.25, 0.4)
LEARNING_RATES: Final = (6e-4, 1e-3, 1.5e-3)
DROPOUTS: Final = (0.05, 0.1)
STRANGERS: Final = 3
"""Members of the negative control, each of its own pretraining."""
RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Weight averaging against prediction ensembling where labels are wrong.

    out: directory of warm.json, warm.png and warm-lines.png. seeds: how many, from first_seed on.
    members: M, of the soup and of the ensemble. pairs: for training; held_out: of each test set.
    pretraining_steps, steps: of 128 sequences, of 128 pairs. threads: of torch, 0 its own choice.
    """

    out: str = "runs/warm"
    seeds: int = 5
    first_seed: int = 0
    members: int = 6
    pairs: int = 1500
    held_out: int = 4000
    pretraining_steps: int = 1500
    steps: int = 900
    threads: int = 0

    def __post_init__(self) -> None:
        for name, least in {"seeds": 1, "members": 2, "pairs": 20, "held_out": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True, slots=True)
class Compared:
    """On one set of pairs: what soup and ensemble get right, and the members on average. (P,) each."""

    soup: np.ndarray
    ensemble: np.ndarray
    member: np.ndarray


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed. compared: (noise, part) -> accuracy. lines: of the soup of one pretraining at 25 %.
    control: of strangers. soup_states: for the cost."""

    compared: dict[tuple[float, str], Compared]
    lines: list[Line]
    control: list[Line]
    states: list[State]


def main(config: Config) -> dict[str, Any]:
    """Run, report, write; returns the report."""
    if config.threads:
        torch.set_num_threads(config.threads)
    started, started_cpu = time.monotonic(), time.process_time()
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    with torch.random.fork_rng(devices=[]):
        trials = [run(config, seed) for seed in progress(seeds, "seeds")]
    sweep = {key: difference_of(trials, key) for key in trials[0].compared}
    chords = {part: chord_of(trials, part) for part in PARTS[2:]}
    refusals = {
        "connected": [refusal(trial.lines) for trial in trials],
        "control": [refusal(trial.control) for trial in trials],
    }
    claims = judged(sweep, chords, refusals)
    report = {
        "config": dataclasses.asdict(config),
        "claims": claims,
        "sweep": [
            {
                "noise": noise,
                "part": part,
                **accuracies(trials, (noise, part)),
                "soup_minus_ensemble": dataclasses.asdict(interval),
            }
            for (noise, part), interval in sweep.items()
        ],
        "chord": {
            part: [dataclasses.asdict(interval) for interval in intervals]
            for part, intervals in chords.items()
        },
        "connected": [connectivity.as_record(trial.lines) for trial in trials],
        "control": {
            "checks": [connectivity.as_record(trial.control) for trial in trials],
            "accuracy": control_accuracies(trials),
            "refusals": refusals["control"],
        },
        "cost": cost(trials[0].states, config.held_out),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
    }
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "warm.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report["sweep"], trials[0].lines, trials[0].control, out)
    show(report, Console(), out)
    return report


def run(config: Config, seed: int) -> Trial:
    """Train all members of one seed, at every noise, and the strangers; measure."""
    torch.manual_seed(seed)  # dropout
    world = World(seed)
    trunk, *others = toy.pretrain(world, range(1 + STRANGERS), config.pretraining_steps)
    clean = world.pairs(config.pairs)
    tests = {
        "held-out": world.pairs(config.held_out),
        "shifted": world.pairs(config.held_out, shifted=True),
    }
    order = torch.randperm(config.pairs, generator=torch.Generator().manual_seed(seed))
    members: list[Member] = []
    swapped = {noise: order < round(noise * config.pairs) for noise in NOISES}
    for which in swapped.values():
        train = clean.swapped(which)
        start = toy.probed(trunk, train)
        members += [member(start, train, number) for number in range(config.members)]
    train = clean.swapped(swapped[CLAIMED])
    members += [member(toy.probed(other, train), train, i) for i, other in enumerate(others)]
    trained = toy.fine_tune(members, config.steps)

    compared: dict[tuple[float, str], Compared] = {}
    groups: dict[float, list[State]] = {}
    for i, (noise, which) in enumerate(swapped.items()):
        states = groups[noise] = trained[i * config.members : (i + 1) * config.members]
        train = clean.swapped(which)
        parts = {"corrupt": train.part(which), "clean": train.part(~which), **tests}
        for part, pairs in parts.items():
            if len(pairs.first):
                compared[noise, part] = compare(states, pairs)
    strangers = trained[-STRANGERS:]

    def evaluate(state: State) -> dict[str, Outcomes]:
        return {
            part: Outcomes(won(margins([state], pairs))[0], np.ones(len(pairs.first)))
            for part, pairs in tests.items()
        }

    return Trial(
        compared,
        lines=connectivity.follow(with_soup(groups[CLAIMED], "member"), evaluate, seed=seed),
        control=connectivity.follow(with_soup(strangers, "stranger"), evaluate, seed=seed),
        states=groups[CLAIMED],
    )


def member(start: State, pairs: Pairs, number: int) -> Member:
    """The number-th viewpoint: learning rate, dropout and order of its own."""
    return Member(
        start=start,
        pairs=pairs,
        learning_rate=LEARNING_RATES[number % len(LEARNING_RATES)],
        dropout=DROPOUTS[number % len(DROPOUTS)],
        seed=number,
    )


def with_soup(states: Sequence[State], name: str) -> dict[str, State]:
    named = {f"{name} {number}": state for number, state in enumerate(states, start=1)}
    return {**named, "soup": toy.soup_of(states)}


def compare(states: Sequence[State], pairs: Pairs) -> Compared:
    each = margins(states, pairs)  # (M, P)
    return Compared(
        soup=won(margins([toy.soup_of(states)], pairs))[0],
        ensemble=won(each.mean(dim=0)),
        member=won(each).mean(axis=0),
    )


def bootstrap(groups: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """Mean over seeds of the mean of each array, 95 %: seeds drawn anew, then what each consists of."""
    rng = np.random.default_rng(seed)
    means = np.stack(
        [
            values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
            for values in groups
        ]
    )  # (seeds, R)
    drawn = rng.integers(len(groups), size=(len(groups), RESAMPLES))
    low, high = np.percentile(np.take_along_axis(means, drawn, axis=0).mean(axis=0), [2.5, 97.5])
    return Interval(float(np.mean([g.mean() for g in groups])), float(low), float(high))


def difference_of(trials: Sequence[Trial], key: tuple[float, str]) -> Interval:
    """Soup − ensemble, paired: both judge the same pairs."""
    both = [trial.compared[key] for trial in trials]
    return bootstrap([one.soup - one.ensemble for one in both])


def accuracies(trials: Sequence[Trial], key: tuple[float, str]) -> dict[str, float]:
    return {
        name: float(np.mean([getattr(trial.compared[key], name).mean() for trial in trials]))
        for name in ("soup", "ensemble", "member")
    }


def chord_of(trials: Sequence[Trial], part: str) -> list[Interval]:
    """Accuracy − chord at each λ in between, over the lines between two members of each seed."""
    above = [
        -np.stack([line.gaps for line in trial.lines if line.head == part and line.b != "soup"])
        for trial in trials
    ]  # each (lines, L)
    return [bootstrap([one[:, at] for one in above]) for at in range(1, connectivity.STEPS)]


def refusal(lines: Sequence[Line]) -> str | None:
    """What the connectivity check says, or None where it lets them pass."""
    try:
        connectivity.require_connected(lines)
    except IncompatibleSoup as error:
        return str(error)
    return None


def control_accuracies(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Of the strangers one by one, and of their average, by part."""

    def mean(part: str, pick: Callable[[Line], float]) -> float:
        return float(
            np.mean(
                [pick(x) for t in trials for x in t.control if x.head == part and x.b == "soup"]
            )
        )

    return {
        part: {
            "members": mean(part, lambda line: line.accuracy[0]),
            "soup": mean(part, lambda line: line.accuracy[-1]),
        }
        for part in PARTS[2:]
    }


def cost(states: Sequence[State], count: int) -> dict[str, float]:
    """Forward passes and seconds (best of five) for the rewards of `count` sequences, one model at a time."""
    sequences = World(0).sequences(count)
    soup = toy.soup_of(states)

    def seconds(models: Sequence[State]) -> float:
        def once() -> float:
            started = time.perf_counter()
            with torch.inference_mode():
                for model in models:
                    toy.rewards([model], sequences)
            return time.perf_counter() - started

        return min(once() for _ in range(5))

    return {
        "forwards_soup": 1,
        "forwards_ensemble": len(states),
        "seconds_soup": seconds([soup]),
        "seconds_ensemble": seconds(states),
    }
