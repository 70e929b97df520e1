"""What demo `overoptimisation` runs: policies that climb a proxy, and the figures of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

from tureen_training import scaling
from tureen_training.connectivity import State
from tureen_training.demo.toy import World, soup_of
from tureen_training.demo.toy_policy import climb
from tureen_training.demo.toy_rewards import REFERENCE, scorer

EVERY: Final = 5
"""Steps from one look to the next."""
ENDING: Final = 3
"""The end of a run is the mean of so many last looks."""

Climbed = Callable[[Tensor, Tensor], Tensor]
"""Sequences (B, T) and what each member gives them (M, B) -> what is climbed (B,)."""


def uncertainty_weighted(penalty: float) -> Climbed:
    """mean − λ · population variance, "UWO" of Coste et al., arXiv:2310.02743."""
    return lambda _, rewards: rewards.mean(0) - penalty * rewards.var(0, unbiased=False)


COMBINED: Final[Mapping[str, Climbed]] = {
    "mean": lambda _, rewards: rewards.mean(0),
    "worst case": lambda _, rewards: rewards.amin(0),
    "uncertainty, λ 0.5": uncertainty_weighted(0.5),
    "uncertainty, λ 2": uncertainty_weighted(2.0),
}
METHODS: Final = ("single", "soup", *COMBINED)
FAMILIES: Final = ("one", "several")
"""Pretrainings of the members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One policy. Arrays are (L,), one number a look.

    family: whose members disagree. disagreement: their variance, mean over the batch. own, others: what the one member
    that is climbed and the mean of the other ones give; None where no single member is.
    """

    family: str
    method: str
    kl_coefficient: float
    gold: np.ndarray
    proxy: np.ndarray
    kl_nats: np.ndarray
    disagreement: np.ndarray
    own: np.ndarray | None
    others: np.ndarray | None

    @property
    def distance(self) -> np.ndarray:
        """√KL. (L,)"""
        return np.sqrt(self.kl_nats)

    def figures(self) -> dict[str, float]:
        """What is compared. Gold's peak is looked for at every second look and read off the ones beside it.

        Gold is 0 at the start by its normalisation. log_growth: of the disagreement, from start to end. r2_law,
        r2_line: on held-out looks, see `scaling`. believed: share of the climbed member's gain that the others see too.
        """
        at = 2 * int(self.gold[::2].argmax())
        beside = [i for i in (at - 1, at + 1) if 0 <= i < len(self.gold)]
        peak, end = float(self.gold[beside].mean()), _end(self.gold)
        law = scaling.fitted(self.distance, self.gold)
        held_out = scaling.held_out(self.distance, self.gold)
        found = {
            "peak": peak,
            "end": end,
            "lost": peak - end,
            "peak_kl_nats": float(self.kl_nats[at]),
            "end_kl_nats": float(self.kl_nats[-1]),
            "proxy_end": _end(self.proxy),
            "proxy_rose": _end(self.proxy) - float(self.proxy[beside].mean()),
            "disagreement": float(self.disagreement[0]),
            "log_growth": float(np.log(_end(self.disagreement) / self.disagreement[0])),
            "alpha": law.alpha,
            "beta": law.beta,
            "r2_law": held_out["law"],
            "r2_line": held_out["line"],
        }
        if self.own is not None and self.others is not None:
            found["believed"] = (_end(self.others) - self.others[0]) / (
                _end(self.own) - self.own[0]
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One seed.

    runs: of both families, without a KL penalty and with one. gold: the control. sized: single members that learnt from
    so many pairs; accuracy: theirs, held-out. refusals: of each family's soup, None where the check lets it pass.
    """

    seed: int
    runs: list[Run]
    gold: Run
    sized: dict[int, list[Run]]
    accuracy: dict[int, float]
    refusals: dict[str, str | None]


def _end(values: np.ndarray) -> float:
    return float(values[-ENDING:].mean())


@dataclass(frozen=True, slots=True)
class Course:
    """What the runs of one seed and one family have in common."""

    world: World
    seed: int
    steps: int
    family: str
    members: Sequence[State]

    def runs(self, kl_coefficient: float) -> list[Run]:
        """Each member climbed by itself, the soup, and every way to combine the members."""
        soup = scorer(self.world, [soup_of(self.members)])
        return [
            *self.singles(kl_coefficient),
            self.run("soup", lambda sequences, _: soup(sequences)[0], kl_coefficient),
            *(self.run(name, climbed, kl_coefficient) for name, climbed in COMBINED.items()),
        ]

    def singles(self, kl_coefficient: float) -> list[Run]:
        return [
            self.run("single", lambda _, rewards, n=n: rewards[n], kl_coefficient, member=n)
            for n in range(len(self.members))
        ]

    def gold(self) -> Run:
        """The control: no proxy."""
        gold = standard_gold(self.world)
        return self.run("gold", lambda sequences, _: gold(sequences), 0.0)

    def run(
        self, method: str, climbed: Climbed, kl_coefficient: float, member: int | None = None
    ) -> Run:
        scored, gold = scorer(self.world, self.members), standard_gold(self.world)

        def reward(sequences: Tensor) -> tuple[Tensor, Tensor]:
            rewards = scored(sequences)
            return climbed(sequences, rewards), rewards.std(0, unbiased=False)

        rows: list[list[float]] = []
        each: list[np.ndarray] = []
        run = climb(
            self.world, reward, kl_coefficient=kl_coefficient, steps=self.steps, seed=self.seed
        )
        for at in run:
            if at.step % EVERY == 0:
                each.append(scored(at.drawn).mean(1).double().numpy())  # (M,)
                of_batch = gold(at.drawn), at.rewards, at.stds.square()
                rows.append([at.kl_nats, *(float(values.mean()) for values in of_batch)])
        kl_nats, golds, proxy, disagreement = np.array(rows).T
        by_member = np.stack(each)  # (L, M)
        return Run(
            family=self.family,
            method=method,
            kl_coefficient=kl_coefficient,
            gold=golds,
            proxy=proxy,
            kl_nats=np.maximum(kl_nats, 0.0),  # of equal distributions rounding makes it −1e-9
            disagreement=disagreement,
            own=None if member is None else by_member[:, member],
            others=None if member is None else np.delete(by_member, member, axis=1).mean(1),
        )


def standard_gold(world: World) -> Callable[[Tensor], Tensor]:
    """Gold of mean 0 and standard deviation 1 on usual sequences. (B, T) -> (B,)"""
    usual = world.gold(world.sequences(REFERENCE))
    mean, std = usual.mean(), usual.std()
    return lambda sequences: (world.gold(sequences) - mean) / std
