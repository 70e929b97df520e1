"""A preference task small enough to run a hundred reward models on a laptop, and those models.

Sequences of 16 tokens out of 32. The gold reward is smooth in hidden features of the tokens, adds what useful
tokens are worth and takes off for repetition; a label says which of two sequences has more of it. Sequences
of the shifted set come from another source: other token frequencies, and tokens that repeat themselves.

A reward model is a perceptron with two hidden layers and a linear head. Many are trained at once, stacked
along the first axis; a member's weights are a dictionary of tensors like any checkpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from tureen.model.averaging import average
from tureen_training.connectivity import State

# legend: M models, B sequences, T = 16 tokens, V = 32 words, D hidden width, P pairs, A pretraining targets

VOCABULARY: Final = 32
LENGTH: Final = 16
TRAITS: Final = 6
"""Hidden features of a token."""
WIDTH: Final = 48
BATCH: Final = 128
USEFUL: Final = 6
PRETRAINING_TARGETS: Final = 24
PRETRAINING_RATE: Final = 2e-3
REPEATING: Final = 0.15
"""Share of tokens of the shifted set that repeat the one before."""


class Pairs(NamedTuple):
    """P comparisons. sequences: (P, 2, T) ids. first: (P,) bool, True where the first is preferred."""

    sequences: Tensor
    first: Tensor

    def swapped(self, which: Tensor) -> Pairs:
        """The labels of `which` (P,) turned round."""
        return Pairs(self.sequences, self.first ^ which)

    def part(self, which: Tensor) -> Pairs:
        return Pairs(self.sequences[which], self.first[which])


class World:
    """The task of one seed: what is rewarded, and where sequences come from."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._traits = self._normal(VOCABULARY, TRAITS)
        self._directions = self._normal(TRAITS, 4)
        self._useful = torch.randperm(VOCABULARY, generator=self._random)[:USEFUL]
        self._worth = 0.5 + torch.rand(USEFUL, generator=self._random)
        self.usual = torch.softmax(0.5 * self._normal(VOCABULARY), dim=0)
        self._shifted = torch.softmax(1.0 * self._normal(VOCABULARY), dim=0)
        self._targets = self._normal(TRAITS, PRETRAINING_TARGETS // 2)
        self._words = torch.randperm(VOCABULARY, generator=self._random)[
            : PRETRAINING_TARGETS // 2 - 1
        ]

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)

    def sequences(self, count: int, *, shifted: bool = False) -> Tensor:
        """(count, T) ids."""
        source = self._shifted if shifted else self.usual
        drawn = torch.multinomial(
            source, count * LENGTH, replacement=True, generator=self._random
        ).view(count, LENGTH)
        if shifted:
            again = torch.rand(count, LENGTH, generator=self._random) < REPEATING
            for t in range(1, LENGTH):
                drawn[:, t] = torch.where(again[:, t], drawn[:, t - 1], drawn[:, t])
        return drawn

    def pairs(self, count: int, *, shifted: bool = False) -> Pairs:
        """Labelled by the gold reward, without noise."""
        sequences = self.sequences(2 * count, shifted=shifted)
        gold = self.gold(sequences).view(count, 2)
        return Pairs(sequences.view(count, 2, LENGTH), gold[:, 0] > gold[:, 1])

    def gold(self, sequences: Tensor) -> Tensor:
        """(B, T) -> (B,) smooth + useful − repetition."""
        smooth = torch.tanh(self._mean_traits(sequences) @ self._directions).sum(dim=1)
        return (
            smooth
            + self._present(sequences, self._useful) @ self._worth
            - 0.5 * _repeats(sequences)
        )

    def pretraining_targets(self, sequences: Tensor) -> Tensor:
        """(B, T) -> (B, A): other smooth functions, other words, repetition. None is the gold reward."""
        smooth = torch.tanh(self._mean_traits(sequences) @ self._targets)
        present = self._present(sequences, self._words)
        return torch.cat([smooth, present, _repeats(sequences)[:, None]], dim=1)

    def _mean_traits(self, sequences: Tensor) -> Tensor:
        return self._traits[sequences].sum(dim=1) / LENGTH**0.5  # (B, TRAITS), about N(0, 1)

    @staticmethod
    def _present(sequences: Tensor, words: Tensor) -> Tensor:
        return (sequences[:, :, None] == words).any(dim=1).float()


def _repeats(sequences: Tensor) -> Tensor:
    """(B,) tokens that occurred before."""
    return LENGTH - (_counts(sequences) > 0).float().sum(dim=1)


def features(states: Sequence[State], sequences: Tensor, dropout: Tensor | None = None) -> Tensor:
    """(B, T), or (M, B, T) for other sequences to each model, -> (M, B, D) last hidden layer.

    dropout: (M,) rates of both hidden layers; None is none.
    """
    w1, b1, w2, b2 = (
        torch.stack([state[name] for state in states]) for name in ("w1", "b1", "w2", "b2")
    )
    counts = _counts(sequences).expand(len(states), -1, -1)  # (M, B, V)
    hidden = _dropped(torch.relu(torch.baddbmm(b1[:, None], counts, w1)), dropout)
    return _dropped(torch.relu(torch.baddbmm(b2[:, None], hidden, w2)), dropout)


def _counts(sequences: Tensor) -> Tensor:
    """(…, T) ids -> (…, V) how often each token occurs."""
    empty = torch.zeros(*sequences.shape[:-1], VOCABULARY)
    return empty.scatter_add_(-1, sequences, torch.ones(sequences.shape))


def _dropped(hidden: Tensor, dropout: Tensor | None) -> Tensor:
    if dropout is None:
        return hidden
    rate = dropout.view(-1, 1, 1)
    return hidden * (torch.rand_like(hidden) >= rate) / (1 - rate)


def rewards(states: Sequence[State], sequences: Tensor, dropout: Tensor | None = None) -> Tensor:
    """As `features` -> (M, B)."""
    head = torch.stack([state["head"] for state in states])  # (M, D)
    return torch.einsum("mbd,md->mb", features(states, sequences, dropout), head)


@torch.inference_mode()
def margins(states: Sequence[State], pairs: Pairs) -> Tensor:
    """(M, P) reward of the preferred − the other."""
    both = rewards(states, pairs.sequences.view(-1, LENGTH)).view(len(states), -1, 2)
    sign = pairs.first.float() * 2 - 1
    return (both[:, :, 0] - both[:, :, 1]) * sign


def won(margins: Tensor) -> np.ndarray:
    """1 where the preferred one is above, ½ where they are equal."""
    return (0.5 * (margins.sign() + 1)).double().numpy()


def pretrain(world: World, seeds: Sequence[int], steps: int) -> list[State]:
    """One trunk for each seed: other initial weights, other sequences, the same targets."""
    states = []
    for seed in seeds:
        random = torch.Generator().manual_seed(seed)
        state = {
            "w1": torch.randn(VOCABULARY, WIDTH, generator=random) * (2 / LENGTH) ** 0.5,
            "b1": torch.zeros(WIDTH),
            "w2": torch.randn(WIDTH, WIDTH, generator=random) * (2 / WIDTH) ** 0.5,
            "b2": torch.zeros(WIDTH),
        }
        heads = torch.randn(WIDTH, PRETRAINING_TARGETS, generator=random) / WIDTH**0.5
        parameters = [*state.values(), heads]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(parameters, lr=PRETRAINING_RATE)
        for step in range(steps):
            sequences = world.sequences(BATCH)
            error = features([state], sequences)[0] @ heads - world.pretraining_targets(sequences)
            optimiser.param_groups[0]["lr"] = PRETRAINING_RATE * (1 - step / steps)
            optimiser.zero_grad()
            error.square().mean().backward()
            optimiser.step()
        states.append({name: tensor.detach() for name, tensor in state.items()})
    return states


@torch.inference_mode()
def probed(trunk: State, pairs: Pairs) -> State:
    """The trunk with a head fitted to it by logistic regression on the pairs. (linear probe)"""
    both = features([trunk], pairs.sequences.view(-1, LENGTH))[0].view(-1, 2, WIDTH)
    fitted = LogisticRegression(C=0.1, fit_intercept=False, max_iter=1000).fit(
        (both[:, 0] - both[:, 1]).numpy(), pairs.first.numpy()
    )
    return {**trunk, "head": torch.from_numpy(fitted.coef_[0]).float()}


@dataclass(frozen=True, slots=True)
class Member:
    """What one model starts from and is taught, and how."""

    start: State
    pairs: Pairs
    learning_rate: float
    dropout: float
    seed: int


def fine_tune(members: Sequence[Member], steps: int) -> list[State]:
    """−log σ(Δ) on the pairs of each member, all members at once, Adam.

    A member's weights are start + rate · δ and Adam moves δ at rate 1: its steps do not depend on the scale of
    the gradient, so this is Adam at `learning_rate` for each member by itself.
    """
    base = members[0].learning_rate
    factors = [member.learning_rate / base for member in members]
    dropout = torch.tensor([member.dropout for member in members])
    deltas = [
        {name: torch.zeros_like(tensor, requires_grad=True) for name, tensor in m.start.items()}
        for m in members
    ]
    orders = [torch.Generator().manual_seed(member.seed) for member in members]
    optimiser = torch.optim.Adam([t for delta in deltas for t in delta.values()], lr=base)
    for _ in range(steps):
        drawn = [
            torch.randint(len(member.pairs.first), (BATCH,), generator=order)
            for member, order in zip(members, orders, strict=True)
        ]
        batches = [m.pairs.part(which) for m, which in zip(members, drawn, strict=True)]
        states = [
            {name: m.start[name] + factor * delta[name] for name in delta}
            for m, factor, delta in zip(members, factors, deltas, strict=True)
        ]
        sequences = torch.stack([batch.sequences.view(-1, LENGTH) for batch in batches])
        both = rewards(states, sequences, dropout).view(len(members), BATCH, 2)
        sign = torch.stack([batch.first for batch in batches]).float() * 2 - 1
        loss = -functional.logsigmoid((both[:, :, 0] - both[:, :, 1]) * sign).mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return [
        {name: m.start[name] + factor * delta[name].detach() for name in delta}
        for m, factor, delta in zip(members, factors, deltas, strict=True)
    ]


def soup_of(states: Sequence[State]) -> State:
    """The uniform soup, by the function that serves."""
    return average(states, [1 / len(states)] * len(states))
