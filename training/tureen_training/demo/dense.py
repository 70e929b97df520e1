"""Demo `dense`: how many episodes a dense reward spares, on the policy and the soup of demo `loop`.

Four ways to put one and the same reward of one response on its tokens; the service, the coefficients and the sum are
the same, return is conserved:

    dense      where the service puts it: each head's segments
    holistic   all on the last token
    scattered  the service's amounts on the tokens of the response in a random order
    exchanged  each response gets the token rewards of another one: nothing can be learnt

The first is the claim, the last two are controls. Gold, which nothing optimises, is read from the policies kept on the
way. Criteria, written before the run: the ratio of episodes, dense over holistic, to the same gold is below 1 with its
interval; scattered needs no fewer than holistic; exchanged never gets there.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tureen.contracts import Sample, Score
from tureen.model.files import write_atomically
from tureen_training import plots, ppo
from tureen_training.demo.loop_evaluation import MAX_NEW_TOKENS, judged, records_of, respond
from tureen_training.demo.service import serving
from tureen_training.metrics import bootstrap
from tureen_training.oracle import RemoteOracle, Reward
from tureen_training.policies import load_policy
from tureen_training.worlds.almanac.dataset import read_items

ARMS: Final = ("dense", "holistic", "scattered", "exchanged")
SHARE: Final = 0.8
"""Of what the holistic run gains in gold: the mark that all are timed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Time dense and holistic rewards to the same gold.

    out: directory of dense.json, dense.png and the runs. source: directory of a finished demo `loop`.
    seeds: how many, from first_seed on. steps, responses_per_step, kl_coefficient, learning_rate: of PPO.
    look_steps: a policy is judged each so many steps, on `prompts` validation prompts.
    """

    out: str = "runs/dense"
    source: str = "runs/demo"
    arms: tuple[str, ...] = ARMS
    seeds: int = 5
    first_seed: int = 0
    steps: int = 40
    responses_per_step: int = 64
    kl_coefficient: float = 0.05
    learning_rate: float = 5e-4
    look_steps: int = 4
    prompts: int = 150

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arms) - set(ARMS))
        if unknown or not {"dense", "holistic"} <= set(self.arms):
            raise ValueError(
                f"arms are {', '.join(self.arms)}; give dense, holistic and what else you want of "
                f"{', '.join(ARMS)}"
            )
        if self.steps % self.look_steps:
            raise ValueError(f"look_steps must divide steps, got {self.look_steps}, {self.steps}")


class Rearranged(RemoteOracle):
    """Rewards of a service, put elsewhere before the trainer sees them."""

    across: bool
    rng: random.Random

    def submit(self, samples: Sequence[Sample]) -> Future[list[Reward]]:
        answered = super().submit(samples)
        handed_on: Future[list[Reward]] = Future()

        def hand_on(done: Future[list[Reward]]) -> None:
            try:
                handed_on.set_result(rearranged(done.result(), self.across, self.rng))
            except Exception as error:
                handed_on.set_exception(error)

        answered.add_done_callback(hand_on)
        return handed_on


def rearranged(rewards: Sequence[Reward], across: bool, rng: random.Random) -> list[Reward]:
    """Token rewards in another order.

    Args:
        across: each response is given the sum of another one, over all of its tokens alike; otherwise it keeps its
            own amounts, each at another token.
    """
    places = [i for i, one in enumerate(rewards) if isinstance(one, Score)]
    others = rng.sample(places, len(places)) if across else places
    found = list(rewards)
    for place, other in zip(places, others, strict=True):
        own, given = rewards[place], rewards[other]
        assert isinstance(own, Score)
        assert isinstance(given, Score)
        amounts = own.token_rewards or ()
        alike = [given.reward / max(1, len(amounts))] * len(amounts)
        amounts = alike if across else rng.sample(amounts, len(amounts))
        found[place] = dataclasses.replace(own, reward=given.reward, token_rewards=tuple(amounts))
    return found


def main(config: Config) -> dict[str, Any]:
    """Run, judge, write; returns the report."""
    out, source = Path(config.out).resolve(), Path(config.source).resolve()
    curves: dict[str, list[list[float]]] = {arm: [] for arm in config.arms}
    out.mkdir(parents=True, exist_ok=True)
    with serving(source / "soup", out / "server.log") as address:
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            for arm in config.arms:
                curves[arm].append(curve(config, arm, seed, address, out, source))
    found = timed(
        curves,
        every=config.look_steps * config.responses_per_step,
        most=config.steps * config.responses_per_step,
    )
    report = {"config": dataclasses.asdict(config), **found}
    write_atomically(out / "dense.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, out / "dense.png")
    show(report, Console())
    return report


def curve(
    config: Config, arm: str, seed: int, address: str, out: Path, source: Path
) -> list[float]:
    """Gold of the start and of each policy kept; a finished run is read and not run again."""
    directory = out / f"{arm}-{seed}"
    settings = ppo.Config(
        policy=str(source / "sft"),
        out=str(directory),
        prompts=(str(source / "world/prompts_train.jsonl"),),
        oracle=address,
        dense=arm != "holistic",
        steps=config.steps,
        responses_per_step=config.responses_per_step,
        chunks=2,
        max_new_tokens=MAX_NEW_TOKENS,
        kl_coefficient=config.kl_coefficient,
        epochs=2,
        learning_rate=config.learning_rate,
        value_learning_rate=1e-3,
        rows_per_forward=config.responses_per_step,
        snapshot_steps=config.look_steps,
        seed=seed,
    )
    if not directory.is_dir():
        moved = arm in ("scattered", "exchanged")
        oracle = (Rearranged if moved else RemoteOracle)(address, segments=False)
        if isinstance(oracle, Rearranged):
            oracle.across, oracle.rng = arm == "exchanged", random.Random(seed)
        with oracle:
            ppo.train(settings, oracle)
    items = read_items(source / "world/gold/validation.jsonl")[: config.prompts]
    run = directory.with_name(directory.name + ".run")
    steps = [record["step"] for record in records_of(run) if record["event"] == "step"]
    kept = [run / f"snapshots/{step:06d}" for step in steps if step % config.look_steps == 0]
    return [
        float(judged(items, respond(load_policy(path), items, 1.0, seed))["score"].mean())
        for path in (source / "sft", *kept)
    ]


def timed(curves: dict[str, list[list[float]]], *, every: int, most: int) -> dict[str, Any]:
    """Episodes of each run to the mark of its seed, and the ratio to the holistic run, with its interval over seeds.

    A run that never gets there counts with all its episodes: its ratio is then a lower bound, and it is counted.

    Args:
        curves: gold at each look of each seed's run, of each arm. every: episodes from look to look. most: of a run.
    """
    episodes: dict[str, list[float | None]] = {arm: [] for arm in curves}
    for seed in range(len(curves["holistic"])):
        holistic = curves["holistic"][seed]
        mark = holistic[0] + SHARE * (max(holistic) - holistic[0])
        for arm, runs in curves.items():
            place = reached(runs[seed], mark)
            episodes[arm].append(None if place is None else place * every)
    arms: dict[str, Any] = {}
    for arm, counts in episodes.items():
        pairs = [
            np.array([[float(most) if count is None else count for count in (own, other)]])
            for own, other in zip(counts, episodes["holistic"], strict=True)
        ]
        found = bootstrap(
            pairs,
            lambda rows: float(np.exp(np.mean(np.log(rows[:, 0] / rows[:, 1])))),
            baselines={"holistic": 1.0},
        )
        arms[arm] = {
            "gold": curves[arm],
            "episodes": counts,
            "never": sum(count is None for count in counts),
            "ratio": found.interval(),
            "last_gold": float(np.mean([runs[-1] for runs in curves[arm]])),
        }
    return {"arms": arms, "every": every}


def reached(gold: Sequence[float], mark: float) -> float | None:
    """At which look, counted from 0 and in between by a straight line, the curve first is at the mark."""
    for look in range(1, len(gold)):
        before, now = gold[look - 1], gold[look]
        if now >= mark:
            return look - (now - mark) / (now - before)
    return None


def draw(report: dict[str, Any], path: Path) -> None:
    made, axes = plots.figure("episodes", "gold", "one reward, put in different places")
    for arm, found in report["arms"].items():
        mean = np.mean(found["gold"], axis=0)
        axes.plot(report["every"] * np.arange(len(mean)), mean, "o-", label=arm)
    axes.legend()
    plots.save(made, path)


def show(report: dict[str, Any], console: Console) -> None:
    table = Table("reward", "episodes to the mark", "ratio to holistic, 95 %", "never", "last gold")
    for arm, found in report["arms"].items():
        ratio = found["ratio"]
        table.add_row(
            arm,
            " ".join("–" if count is None else f"{count:.0f}" for count in found["episodes"]),
            f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
            str(found["never"]),
            f"{found['last_gold']:.3f}",
        )
    console.print(table)
    console.print(f"mark: {SHARE:.0%} of the holistic gain")
