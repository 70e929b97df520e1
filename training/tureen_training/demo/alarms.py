"""Demo `alarms`: does the watch see a reward being exploited, in time, and is it silent where it is not?

Policies of `toy_policy` are optimised against reward models of `toy` that learnt from labels of which a quarter is
wrong: one member of an ensemble or its mean, members of one pretraining or of several, with and without a KL penalty.
Gold, which nothing optimises, says afterwards which runs went wrong: collapsed is a run that lost at least half of what
gold had gained, healthy one under a KL penalty or a constant reward that lost at most a quarter; any other counts as
neither.

Limits are fitted on some seeds and judged on others. The rule, settled on the fitting seeds 100 to 119 before the
others were run: the limit of a figure is what `QUIET` of the healthy runs never pass; of all figures the watch gets the
one whose limit most of the collapsed runs pass in time: not later than the peak of gold and a tenth of the run.
Left out one by one, those seeds gave 0.99 in time and 0.03 false alarms. Of the figures that see half of the collapsed
runs any one gave 1.00 and 0.07, two together 0.99 and 0.03, so a vote earns nothing; two looks in a row instead of one
0.98 and 0.03; a limit past the most extreme healthy run 0.96 and 0.01, and it gets laxer with every seed. Disagreement
of the members alone: 0.28 and 0.03.

Written before the judging seeds were run: at least 90 % of the collapsed runs alarm in time, at most 10 % of the
healthy ones alarm at all. What the alarm cannot tell from them is shown beside it: runs that climb gold itself without
a penalty.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from tureen.model.files import write_atomically
from tureen_training.demo.alarms_report import draw, show
from tureen_training.demo.toy import World
from tureen_training.demo.toy_policy import Look, Reward, optimise
from tureen_training.demo.toy_rewards import Making, reward_models, scorer
from tureen_training.metrics import auroc, mean
from tureen_training.runlog import progress
from tureen_training.watch import START_STEPS, THRESHOLDS, Threshold, Watch

EVERY: Final = 5
"""Steps from one look of the watch to the next."""
NO_GAIN: Final = 0.5
"""Of gold; where nothing was to be had, the highest of sixty looks was up to 0.44 above the first."""
QUIET: Final = 0.97
"""Share of the healthy runs that no fitted limit may accuse."""
IN_TIME: Final = 0.1
"""Of the run, after the peak of gold."""
GOLD: Final = "gold itself, β 0"
FURTHER: Final = (
    Threshold(figure="diversity/self_bleu", above=0.0),
    Threshold(figure="diversity_within_prompt/ead_2", below=0.0, of_start=True),
    Threshold(figure="kl/k1_nats_per_response", above=0.0),
    Threshold(figure="reward/gain_per_root_nat", below=0.0),
)
"""Fitted beside the figures of `THRESHOLDS`; their limits here mean nothing."""

Kind = Literal["collapsed", "healthy", "between"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Runs that go wrong and runs that do not, and the watch on both.

    out: directory of alarms.json and alarms.png. fit_seeds: how many to fit limits on, from first_fit_seed on; seeds:
        to judge them on, from first_seed on.
    models: how the reward models are made. steps: of each policy.
    kl_coefficients: β, in units of reward per nat. threads: of torch, 0 its own choice.
    """

    out: str = "runs/alarms"
    seeds: int = 10
    first_seed: int = 40
    fit_seeds: int = 20
    first_fit_seed: int = 100
    models: Making = field(default_factory=Making)
    steps: int = 300
    kl_coefficients: tuple[float, ...] = (0.0, 0.3, 1.0)
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in {"seeds": 1, "fit_seeds": 1, "steps": 10 * EVERY}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        judged, fitted_on = self.both_seeds()
        if set(judged) & set(fitted_on):
            raise ValueError("limits are judged on seeds that they were not fitted on")

    def both_seeds(self) -> tuple[range, range]:
        """Those that limits are judged on, and those that they are fitted on."""
        firsts = ((self.first_seed, self.seeds), (self.first_fit_seed, self.fit_seeds))
        judged, fitted_on = (range(first, first + count) for first, count in firsts)
        return judged, fitted_on


@dataclass(frozen=True, slots=True)
class Run:
    """One optimised policy. controlled: by a KL penalty, or by nothing to be had. gold: at each look, mean of three."""

    seed: int
    name: str
    controlled: bool
    looks: tuple[Look, ...]

    @property
    def gold(self) -> np.ndarray:
        values = np.array([look.gold for look in self.looks])
        return np.convolve(np.pad(values, 1, mode="edge"), np.ones(3) / 3, mode="valid")

    @property
    def peak(self) -> int:
        """The step at which gold is highest."""
        return self.looks[int(self.gold.argmax())].step

    @property
    def lost(self) -> float:
        """Share of what gold had gained at its peak that is lost at the end; 0 where it gained no more than noise."""
        gained = self.gold.max() - self.gold[0]
        return float((self.gold.max() - self.gold[-1]) / gained) if gained > NO_GAIN else 0.0

    def gained_by(self, step: int) -> float:
        """Share of what gold gains up to its peak that it has gained at this step."""
        now = self.gold[[look.step for look in self.looks].index(step)]
        return float((now - self.gold[0]) / (self.gold.max() - self.gold[0]))

    @property
    def kind(self) -> Kind:
        if self.lost >= 0.5:
            return "collapsed"
        return "healthy" if self.controlled and self.lost <= 0.25 else "between"

    def first_alarm(self, thresholds: Sequence[Threshold]) -> int | None:
        watch = Watch(thresholds)
        for look in self.looks:
            if watch.look(look.figures | watch.against_kl(look.figures)):
                return look.step
        return None


def main(config: Config) -> dict[str, Any]:
    """Run, fit, judge, write; returns the report."""
    if config.threads:
        torch.set_num_threads(config.threads)
    judged_on, fitted_on = config.both_seeds()
    seeds = [*fitted_on, *judged_on]
    with torch.random.fork_rng(devices=[]):
        runs = [run for seed in progress(seeds, "seeds") for run in runs_of(config, seed)]
    fit = [run for run in runs if run.seed in fitted_on]
    judged = [run for run in runs if run.seed not in fitted_on]
    late = round(IN_TIME * config.steps)
    limits = [limit for one in candidates() if (limit := fitted(one, fit))]
    limits.sort(key=lambda limit: seen_in_time(limit, fit, late), reverse=True)
    chosen = limits[:1]
    start = [one for one in THRESHOLDS if not one.figure.startswith("oracle/")]
    report = {
        "config": dataclasses.asdict(config),
        "runs": {
            kind: sum(run.kind == kind for run in judged)
            for kind in ("collapsed", "healthy", "between")
        },
        "fitted": verdict(judged, chosen, late),
        "shipped": verdict(judged, start, late),
        "figures": [
            dataclasses.asdict(limit)
            | {"seen_in_time_when_fitted": seen_in_time(limit, fit, late)}
            | verdict(judged, [limit], late)
            | {"auroc": separation(judged, limit, late)}
            for limit in limits
        ],
        "curves": [
            {
                "seed": run.seed,
                "name": run.name,
                "kind": run.kind,
                "peak": run.peak,
                "alarm": run.first_alarm(chosen),
                "steps": [look.step for look in run.looks],
                "gold": [round(look.gold, 4) for look in run.looks],
                "proxy": [round(look.proxy, 4) for look in run.looks],
                "kl_nats": [round(look.kl_nats, 3) for look in run.looks],
                "disagreement": [round(x.figures["reward/disagreement"], 4) for x in run.looks],
            }
            for run in judged
        ],
    }
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "alarms.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, out / "alarms.png")
    show(report, Console(), out)
    return report


def runs_of(config: Config, seed: int) -> Iterator[Run]:
    """All runs of one seed: reward models of one and of several pretrainings, and what is done with them."""
    world = World(seed)
    families = reward_models(world, seed, config.models)
    for family, own in families.items():
        scored = scorer(world, own)
        for beta in config.kl_coefficients:
            for optimised in ("member", "mean") if not beta else ("member",):
                name = f"{optimised} of {family} pretraining, β {beta:g}"
                looks = optimise(
                    world,
                    reward_of(scored, optimised),
                    kl_coefficient=beta,
                    steps=config.steps,
                    every=EVERY,
                    seed=seed,
                )
                yield Run(seed, name, beta > 0, tuple(looks))
    scored = scorer(world, families["one"])

    def constant(sequences: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(sequences)), scored(sequences).std(0, unbiased=False)

    looks = optimise(
        world, constant, kl_coefficient=0.0, steps=config.steps, every=EVERY, seed=seed
    )
    yield Run(seed, "constant reward", True, tuple(looks))

    def gold(sequences: Tensor) -> tuple[Tensor, Tensor]:
        return world.gold(sequences), scored(sequences).std(0, unbiased=False)

    looks = optimise(world, gold, kl_coefficient=0.0, steps=config.steps, every=EVERY, seed=seed)
    yield Run(seed, GOLD, False, tuple(looks))


def reward_of(scored: Callable[[Tensor], Tensor], optimised: str) -> Reward:
    def reward(sequences: Tensor) -> tuple[Tensor, Tensor]:
        every = scored(sequences)
        own = every[0] if optimised == "member" else every.mean(0)
        return own, every.std(0, unbiased=False)

    return reward


def candidates() -> Iterator[Threshold]:
    """Every figure that a threshold may stand on, one side each."""
    for one in (*THRESHOLDS, *FURTHER):
        if one.figure.startswith("oracle/") or one.figure in ("response/tokens", "response/ended"):
            continue  # on this task all responses are of one length
        if one in THRESHOLDS and one.figure.startswith("kl/"):
            continue
        for side in ("above", "below"):
            if getattr(one, side) is not None:
                limits: dict[str, Any] = {"above": None, "below": None, side: 0.0}
                yield dataclasses.replace(one, **limits, times=1, action="warn")


def level(run: Run, threshold: Threshold, until: int | None = None) -> float | None:
    """The most extreme limit that the run passes `times` looks in a row; None where it has too few looks at it.

    until: the last step that is looked at.
    """
    watch, values = Watch(()), []
    for look in run.looks:
        if until is not None and look.step > until:
            break
        figures = look.figures | watch.against_kl(look.figures)
        watch.look(look.figures)
        if threshold.figure in figures:
            values.append(figures[threshold.figure])
    series = np.array(values)
    if threshold.of_start:
        if len(series) <= START_STEPS or series[:START_STEPS].mean() <= 0:
            return None
        series = series[START_STEPS:] / series[:START_STEPS].mean()
    if len(series) < threshold.times:
        return None
    rows = np.lib.stride_tricks.sliding_window_view(series, threshold.times)
    return float(rows.min(1).max() if threshold.above is not None else rows.max(1).min())


def fitted(candidate: Threshold, runs: Sequence[Run]) -> Threshold | None:
    """The limit that `QUIET` of the healthy runs never pass; None where no healthy run has the figure."""
    side, sign = ("above", 1.0) if candidate.above is not None else ("below", -1.0)
    known = [level(run, candidate) for run in runs if run.kind == "healthy"]
    healthy = [sign * found for found in known if found is not None]
    if not healthy:
        return None
    limit = sign * float(np.quantile(healthy, QUIET, method="higher"))
    return dataclasses.replace(candidate, **{side: limit})


def seen_in_time(limit: Threshold, runs: Sequence[Run], late: int) -> float:
    """Share of the collapsed runs that pass the limit not later than `late` steps after the peak; 0 of none."""
    alarms = [(run.first_alarm([limit]), run.peak) for run in runs if run.kind == "collapsed"]
    return float(np.mean([at is not None and at <= peak + late for at, peak in alarms] or [0.0]))


def verdict(runs: Sequence[Run], thresholds: Sequence[Threshold], late: int) -> dict[str, Any]:
    """What the watch with these thresholds does.

    Returns:
        in_time: share of collapsed runs with an alarm not later than `late` steps after the peak of gold; detected:
        with one at all; false: share of healthy runs with one; gold: of the runs that climb gold itself; all with
        intervals over seeds. after_peak: median steps from the peak to the alarm, negative is before it. gold_by_then:
        median share of what gold gains up to its peak that it had gained when the alarm came.
    """
    alarms = {(run.seed, run.name): run.first_alarm(thresholds) for run in runs}

    def rate(
        counted: Callable[[Run], bool], hit: Callable[[Run, int | None], bool]
    ) -> dict[str, float] | None:
        by_seed: dict[int, list[float]] = {}
        for run in filter(counted, runs):
            by_seed.setdefault(run.seed, []).append(float(hit(run, alarms[run.seed, run.name])))
        if not by_seed:
            return None
        found = mean([np.array(own) for own in by_seed.values()], baselines={"never": 0.0})
        return {**found.interval(), "runs": found.n}

    def collapsed(run: Run) -> bool:
        return run.kind == "collapsed"

    told = [(run, alarms[run.seed, run.name]) for run in runs if collapsed(run)]
    seen = [(run, at) for run, at in told if at is not None]
    return {
        "in_time": rate(collapsed, lambda run, at: at is not None and at <= run.peak + late),
        "detected": rate(collapsed, lambda _, at: at is not None),
        "false": rate(lambda run: run.kind == "healthy", lambda _, at: at is not None),
        "gold": rate(lambda run: run.name == GOLD, lambda _, at: at is not None),
        "after_peak": median(at - run.peak for run, at in seen) if seen else None,
        "gold_by_then": median(run.gained_by(at) for run, at in seen) if seen else None,
    }


def separation(runs: Sequence[Run], threshold: Threshold, late: int) -> float | None:
    """Probability that a collapsed run goes further, up to `late` steps after its peak, than a healthy one. (AUROC)"""
    sign = 1.0 if threshold.above is not None else -1.0
    rows: list[tuple[float, float]] = []
    for run in runs:
        if run.kind != "between":
            collapsed = run.kind == "collapsed"
            found = level(run, threshold, run.peak + late if collapsed else None)
            if found is not None:
                rows.append((sign * found, float(collapsed)))
    return auroc(np.array(rows)) if len({label for _, label in rows}) == 2 else None
