"""Demo `overoptimisation`: what becomes of gold when a policy climbs a proxy, and what ensembles and soups change.

Gao et al. (arXiv:2210.10760), Coste et al. (arXiv:2310.02743) and Eisenstein et al. (arXiv:2312.09244) on the task of
`toy`. Reward models learn from labels of which a quarter is wrong. Policies of `toy_policy` climb one of them, their
soup, the mean of an ensemble, its worst case, or its mean less λ times its variance (uncertainty-weighted); members
have one pretraining or several; without a KL penalty and with one. Proxies and gold have mean 0 and standard deviation
1 on responses of the policy that every run begins with. Single reward models are climbed one by one and averaged.

Controls: gold itself is climbed; a KL penalty; a soup of members of several pretrainings, which the connectivity check
should refuse. The criteria of `overoptimisation_report` were written before the seeds they are judged on were run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from tureen.model.files import write_atomically
from tureen_training import connectivity
from tureen_training.connectivity import Outcomes, State
from tureen_training.demo import toy
from tureen_training.demo.overoptimisation_report import draw, show, summary
from tureen_training.demo.overoptimisation_runs import EVERY, FAMILIES, Course, Trial
from tureen_training.demo.toy import Pairs, World, margins, won
from tureen_training.demo.toy_rewards import Making, learners, noisy_pairs
from tureen_training.demo.warm import refusal, with_soup
from tureen_training.runlog import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Gold against proxy, for single reward models, soups and ensembles.

    out: directory of overoptimisation.json and two plots. seeds: how many, from first_seed on.
    models: how the reward models are made. sizes: pairs that single ones learn from, to see what more data are worth.
    held_out: pairs for their accuracy, and for the connectivity check. steps: of each policy.
    kl_coefficient: β of the runs with a penalty, in units of reward per nat. threads: of torch, 0 its own choice.
    """

    out: str = "runs/overoptimisation"
    seeds: int = 10
    first_seed: int = 0
    models: Making = field(default_factory=Making)
    sizes: tuple[int, ...] = (500, 2000, 8000)
    held_out: int = 2000
    steps: int = 300
    kl_coefficient: float = 0.3
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in {"seeds": 1, "held_out": 1, "steps": 10 * EVERY}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not self.kl_coefficient > 0:
            raise ValueError(
                f"kl_coefficient is {self.kl_coefficient}; it must be above 0: all runs without a penalty are made too"
            )
        if len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"sizes are {self.sizes}; give two or more, ascending, from 1 on")


def main(config: Config) -> dict[str, Any]:
    """Run, judge, write; returns the report."""
    if config.threads:
        torch.set_num_threads(config.threads)
    started, started_cpu = time.monotonic(), time.process_time()
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    with torch.random.fork_rng(devices=[]):
        trials = [run(config, seed) for seed in progress(seeds, "seeds")]
    report = {
        "config": dataclasses.asdict(config),
        **summary(trials),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
    }
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_atomically(out / "overoptimisation.json", text)
    draw(trials, out)
    show(report, Console(), out)
    return report


def run(config: Config, seed: int) -> Trial:
    """Make all reward models of one seed and climb them."""
    torch.manual_seed(seed)  # dropout
    world, making = World(seed), config.models
    shared, *others = toy.pretrain(world, range(1 + making.members), making.pretraining_steps)
    same = [shared] * making.members
    students = learners(same + others, noisy_pairs(world, seed, making.pairs))
    most = noisy_pairs(world, seed, config.sizes[-1])
    for size in config.sizes:
        students += learners(same, most.part(torch.arange(len(most.first)) < size))
    states = toy.fine_tune(students, making.tuning_steps)
    one, several, *sized = (
        states[first : first + making.members] for first in range(0, len(states), making.members)
    )

    def course(family: str, members: Sequence[State]) -> Course:
        return Course(world, seed, config.steps, family, members)

    families = [course(*own) for own in zip(FAMILIES, (one, several), strict=True)]
    betas = 0.0, config.kl_coefficient
    runs = [run for family in families for beta in betas for run in family.runs(beta)]
    by_size = dict(zip(config.sizes, sized, strict=True))
    tests = {
        "held-out": world.pairs(config.held_out),
        "shifted": world.pairs(config.held_out, shifted=True),
    }
    return Trial(
        seed=seed,
        runs=runs,
        gold=families[0].gold(),
        sized={n: course(f"{n} pairs", own).singles(0.0) for n, own in by_size.items()},
        accuracy={
            n: float(won(margins(own, tests["held-out"])).mean()) for n, own in by_size.items()
        },
        refusals={one.family: refused(one.members, tests, seed) for one in families},
    )


def refused(members: Sequence[State], tests: Mapping[str, Pairs], seed: int) -> str | None:
    """What the connectivity check says of their soup, or None where it lets it pass."""

    def evaluate(state: State) -> dict[str, Outcomes]:
        return {
            name: Outcomes(won(margins([state], pairs))[0], np.ones(len(pairs.first)))
            for name, pairs in tests.items()
        }

    return refusal(connectivity.follow(with_soup(members, "member"), evaluate, seed=seed))
