"""A policy small enough to be optimised against a reward model in a second, on the task of `toy`.

Sixteen tokens, each drawn from a distribution of its own: 16 × 32 logits. Its KL to the reference is exact. It begins
as the source of the world's usual sequences and follows the policy gradient (REINFORCE, batch mean as baseline, Adam).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import torch
from torch import Tensor

from tureen_training.demo.toy import LENGTH, VOCABULARY, World
from tureen_training.watch import Facts, figures_of

BATCH: Final = 256
LEARNING_RATE: Final = 0.03
LOOKED_AT: Final = 64
"""Sequences of a batch that the figures of the watch are taken of; four to a prompt, as if there were prompts."""

Reward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(B, T) sequences -> the reward that is optimised, and the standard deviation of the members. (B,) each."""


@dataclass(frozen=True, slots=True)
class Step:
    """The policy before an update. drawn: (B, T) its batch. rewards, stds: of it, (B,). log_probs: (T, V)."""

    step: int
    drawn: Tensor
    rewards: Tensor
    stds: Tensor
    log_probs: Tensor
    kl_nats: float


@dataclass(frozen=True, slots=True)
class Look:
    """One step of a run. gold: of its batch, never optimised. kl_nats: exact, per response. figures: of the watch."""

    step: int
    gold: float
    proxy: float
    kl_nats: float
    figures: dict[str, float]


def climb(
    world: World, reward: Reward, *, kl_coefficient: float, steps: int, seed: int
) -> Iterator[Step]:
    """Yields every step of a run.

    Args:
        kl_coefficient: β of −β · KL, in units of reward per nat.
    """
    generator = torch.Generator().manual_seed(seed)
    start = reference(world)
    logits = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for step in range(steps):
        log_probs = logits.log_softmax(1)  # (T, V)
        drawn = torch.multinomial(
            log_probs.detach().exp(), BATCH, replacement=True, generator=generator
        ).T  # (B, T)
        rewards, stds = reward(drawn)
        own = log_probs[torch.arange(LENGTH), drawn]  # (B, T)
        kl = (log_probs.exp() * (log_probs - start)).sum()
        yield Step(step, drawn, rewards, stds, log_probs.detach(), float(kl.detach()))
        advantages = rewards - rewards.mean()
        loss = -(advantages * own.sum(1)).mean() + kl_coefficient * kl
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def optimise(
    world: World, reward: Reward, *, kl_coefficient: float, steps: int, every: int, seed: int
) -> Iterator[Look]:
    """As `climb`, but yields every so many steps what the run looks like to the watch."""
    start = reference(world)
    for at in climb(world, reward, kl_coefficient=kl_coefficient, steps=steps, seed=seed):
        if at.step % every == 0:
            facts = _facts(at.drawn, at.rewards, at.stds, at.log_probs, start)
            yield Look(
                step=at.step,
                gold=float(world.gold(at.drawn).mean()),
                proxy=fmean(at.rewards.tolist()),
                kl_nats=at.kl_nats,
                figures=figures_of(list(facts), VOCABULARY),
            )


def reference(world: World) -> Tensor:
    """Log-probabilities of the policy that every run begins with. (T, V)"""
    return world.usual.log().expand(LENGTH, VOCABULARY)


def _facts(
    drawn: Tensor, rewards: Tensor, stds: Tensor, log_probs: Tensor, start: Tensor
) -> Iterator[Facts]:
    """Of the first sequences of a batch. log_probs, start: of the policy and of the reference. Shape: (T, V)"""
    entropy = -float((log_probs.exp() * log_probs).sum())
    places = torch.arange(LENGTH)
    for i, tokens in enumerate(drawn[:LOOKED_AT]):
        before = float(start[places, tokens].sum())
        ratio = float(log_probs[places, tokens].sum()) - before
        yield Facts(
            id=str(i // 4),
            text=" ".join(map(str, tokens.tolist())),
            token_ids=tuple(tokens.tolist()),
            ended=True,
            code=None,
            reward=float(rewards[i]),
            std=float(stds[i]),
            k1=ratio,
            k2=ratio**2 / 2,
            k3=math.expm1(-ratio) + ratio,
            entropy=entropy,
            reference_log_prob=before,
        )
