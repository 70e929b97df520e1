"""Demo `credit`: one and the same reward, put in five places, on a task of eight segments with four tokens each.

A response is 8 × 4 tokens out of 16, drawn independently; each token is worth something at its place, a segment what
its four tokens are, and each segment's reward has noise. A policy of 32 × 16 logits follows the policy gradient with
our GAE (γ = λ = 1), the expected return of each place as its value, and whitened advantages. What differs is where the
rewards lie, and nothing else; their sum is the same:

    dense      each segment's at its last token
    holistic   all at the last token of the response
    own        as dense, but nothing is handed on from segment to segment (γλ = 0 between them)
    scattered  at tokens of the response in a random order
    exchanged  as dense, of another response

The first is the claim of Wu et al. (arXiv:2306.01693), the last two are controls. `own` uses that segments here do not
depend on each other, which nobody knows of a language. Gold is the exact expectation, without noise.

Criteria, written before seeds 0 to 9 were run: the ratio of episodes, dense over holistic, to the same gold is below 1
with its interval, at a last gold no lower; scattered needs no fewer than holistic; exchanged never gets there.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from torch import Tensor

from tureen.model.files import write_atomically
from tureen_training.advantages import gae, whiten
from tureen_training.demo.dense import draw, show, timed
from tureen_training.runlog import progress

SEGMENTS: Final = 8
SEGMENT_TOKENS: Final = 4
TOKENS: Final = SEGMENTS * SEGMENT_TOKENS
VOCABULARY: Final = 16
ARMS: Final = ("dense", "holistic", "own", "scattered", "exchanged")
VALUE_RATE: Final = 0.1
"""Of the running mean of returns that is the value of a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Time five ways to place one reward to the same gold.

    out: directory of credit.json and credit.png. seeds: how many, from first_seed on.
    noise: standard deviation of what is added to the reward of each segment.
    steps, responses_per_step, learning_rate: of each run; gold is looked at each so many look_steps.
    """

    out: str = "runs/credit"
    seeds: int = 10
    first_seed: int = 0
    noise: float = 0.5
    steps: int = 400
    responses_per_step: int = 16
    learning_rate: float = 0.05
    look_steps: int = 5

    def __post_init__(self) -> None:
        if self.steps % self.look_steps:
            raise ValueError(f"look_steps must divide steps, got {self.look_steps}, {self.steps}")


def main(config: Config) -> dict[str, Any]:
    """Run, judge, write; returns the report."""
    torch.set_num_threads(1)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    curves: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for seed in progress(seeds, "seeds"):
        for arm in ARMS:
            curves[arm].append(curve(config, arm, seed))
    batch = config.responses_per_step
    found = timed(curves, every=config.look_steps * batch, most=config.steps * batch)
    report = {"config": dataclasses.asdict(config), **found, "criteria": verdicts(found["arms"])}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "credit.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, out / "credit.png")
    console = Console()
    show(report, console)
    for criterion, met in report["criteria"].items():
        console.print(f"{criterion}: {'met' if met else 'NOT MET'}")
    return report


def curve(config: Config, arm: str, seed: int) -> list[float]:
    """Gold of the start and at each look."""
    random = torch.Generator().manual_seed(seed)
    worth = torch.randn(TOKENS, VOCABULARY, generator=random) / SEGMENT_TOKENS**0.5
    logits = torch.zeros(TOKENS, VOCABULARY, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=config.learning_rate)
    places, values, looks = torch.arange(TOKENS), torch.zeros(TOKENS), []
    for step in range(config.steps + 1):
        log_probs = logits.log_softmax(1)  # (T, V)
        if step % config.look_steps == 0:
            looks.append(float((log_probs.detach().exp() * worth).sum()))
        drawn = torch.multinomial(
            log_probs.detach().exp(), config.responses_per_step, replacement=True, generator=random
        ).T  # (B, T)
        amounts = worth[places, drawn].view(-1, SEGMENTS, SEGMENT_TOKENS).sum(2)
        noisy = amounts + config.noise * torch.randn(amounts.shape, generator=random)
        rewards = placed(noisy, arm, random)  # (B, T)
        advantages, returns = credited(rewards, values.expand_as(rewards), own=arm == "own")
        values = values + VALUE_RATE * (returns.mean(0) - values)
        loss = -(
            whiten(advantages, torch.ones_like(drawn, dtype=torch.bool)) * log_probs[places, drawn]
        )
        optimiser.zero_grad()
        loss.sum(1).mean().backward()
        optimiser.step()
    return looks


def placed(amounts: Tensor, arm: str, random: torch.Generator) -> Tensor:
    """The rewards of segments on tokens.

    Args:
        amounts: Shape: (B, SEGMENTS)

    Returns:
        Shape: (B, TOKENS)
    """
    rewards = torch.zeros(len(amounts), SEGMENTS, SEGMENT_TOKENS)
    if arm == "exchanged":
        amounts = amounts[torch.randperm(len(amounts), generator=random)]
    if arm == "holistic":
        rewards[:, -1, -1] = amounts.sum(1)
    else:
        rewards[:, :, -1] = amounts
    rewards = rewards.view(-1, TOKENS)
    if arm == "scattered":
        order = torch.rand(rewards.shape, generator=random).argsort(1)
        rewards = rewards.gather(1, order)
    return rewards


def credited(rewards: Tensor, values: Tensor, *, own: bool) -> tuple[Tensor, Tensor]:
    """Advantages and returns; with `own`, each segment as if it were a response. Shape: (B, TOKENS) each."""
    shape = (-1, SEGMENT_TOKENS) if own else rewards.shape
    rewards, values = rewards.reshape(shape), values.reshape(shape)
    mask = torch.ones_like(rewards, dtype=torch.bool)
    advantages, returns = gae(rewards, values, mask, discount=1.0, trace=1.0)
    return advantages.view(-1, TOKENS), returns.view(-1, TOKENS)


def verdicts(arms: dict[str, Any]) -> dict[str, bool]:
    dense, holistic = arms["dense"], arms["holistic"]
    return {
        "dense needs fewer episodes than holistic": dense["ratio"]["high"] < 1,
        "at a last gold no lower": dense["last_gold"] >= holistic["last_gold"],
        "scattered needs no fewer": arms["scattered"]["ratio"]["low"] >= 1,
        "exchanged never gets there": arms["exchanged"]["never"] == len(holistic["episodes"]),
    }
