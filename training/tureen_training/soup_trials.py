"""Soups tried in memory on one set of examples, before any is written.

Ingredients of one base differ in few tensors: only those are kept of each, only those are averaged, and what
enters the lowest layer that differs is computed once for all soups (`trunk.ActivationCache`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tureen.model.averaging import TaskVector, average, combine
from tureen.model.checkpoint import load
from tureen.model.heads import RewardHeads
from tureen.model.manifest import LINEAR, HeadSpec, Manifest, Method
from tureen.model.reward_model import RewardModel, load_base
from tureen.model.storage import BACKBONE, HEAD_BIAS, HEAD_WEIGHT
from tureen.text.encoding import TextEncoder, Window
from tureen_training.connectivity import Outcomes, State
from tureen_training.data.items import Item, Values, rows_of, run, tensors
from tureen_training.data.records import TEACHES, Example
from tureen_training.data.sets import encode_all
from tureen_training.evaluation.scorers import pad_id_of
from tureen_training.trunk import ActivationCache, freeze_below, frozen_digest, layers_of, replaying


@dataclass(frozen=True, slots=True)
class Trials:
    """What `trials` yields.

    states: of each ingredient the tensors in which not all are alike. base: the same of the trunk of the base,
    where the method needs it. values_of: what the model with those tensors says of the examples.
    """

    states: dict[str, dict[str, Tensor]]
    base: dict[str, Tensor]
    method: Method
    heads: tuple[HeadSpec, ...]
    items: list[Item]
    values_of: Callable[[State], list[list[Values]]]

    def soup_of(self, coefficients: Sequence[float]) -> State:
        """What `checkpoint.load` would form of them, as far as they differ; heads are averaged linearly."""
        states = list(self.states.values())
        mean = average(states, coefficients)
        if self.method == LINEAR:
            return mean
        vectors = [TaskVector({n: state[n] for n in self.base}, self.base) for state in states]
        changes = combine(self.method, vectors, coefficients)
        return {**mean, **{name: self.base[name] + changes[name] for name in changes}}

    def outcomes(self, state: State) -> dict[str, Outcomes]:
        """What each head gets right, by example."""
        values = self.values_of(state)
        return {head.name: outcomes_of(head.name, self.items, values) for head in self.heads}

    def accuracy(self, coefficients: Sequence[float]) -> float:
        """Of the soup, the mean over the heads that have comparisons."""
        outcomes = self.outcomes(self.soup_of(coefficients)).values()
        return float(np.mean([one.accuracy for one in outcomes if one.counts.sum() > 0]))


@contextlib.contextmanager
def trials(
    directories: Sequence[str | Path],
    examples: Sequence[Example],
    *,
    method: Method,
    cache: Path,
    max_batch_tokens: int,
) -> Iterator[Trials]:
    """The ingredients in memory: inside, soups of them can be tried.

    Args:
        directories: of models that `soup.require_compatible` lets pass.
        cache: directory for activations. max_batch_tokens: of one forward pass.
    """
    loaded = [load(directory) for directory in directories]
    model, manifest = loaded[0].model, loaded[0].manifest
    assert isinstance(model, RewardModel)  # no soup is made of anything else
    encoder = TextEncoder.from_directory(loaded[0].tokenizer_directory, manifest.text)
    items = encode_all(examples, encoder, manifest.heads, "examples")
    whole = [_checkpoint(one.model.state_dict()) for one in loaded]
    base = {} if method == LINEAR else _trunk_of_base(manifest)
    differing = [
        name
        for name, tensor in whole[0].items()
        if not all(torch.equal(state.get(name, tensor), tensor) for state in (*whole, base))
    ]
    states = [{name: state[name].clone() for name in differing} for state in whole]
    model.heads = RewardHeads(whole[0][HEAD_WEIGHT], whole[0][HEAD_BIAS])
    pad_id = pad_id_of(encoder)

    with contextlib.ExitStack() as stack:
        activations = replay = None
        frozen = _alike_below(model, differing)
        if frozen:
            freeze_below(model, len(layers_of(model.backbone)) - frozen)
            windows = [row.window for row in rows_of(items)]
            activations = ActivationCache(cache, frozen_digest(model), windows, frozen)
            activations.fill(model, pad_id, max_batch_tokens)
            replay = stack.enter_context(replaying(model, activations))

        def forward(windows: list[Window]) -> Tensor:
            if replay is not None and activations is not None:
                replay.hidden = activations.hidden(windows)
            with torch.inference_mode():
                return model(**tensors(windows, pad_id))[:, :, 0]  # (B, N, H)

        def values_of(state: State) -> list[list[Values]]:
            model.load_state_dict(dict(state), strict=False)
            return run(items, manifest.heads, forward, max_batch_tokens)

        names = _distinct([Path(directory).name for directory in directories])
        yield Trials(
            states=dict(zip(names, states, strict=True)),
            base={name: base[name] for name in differing if name in base},
            method=method,
            heads=manifest.heads,
            items=items,
            values_of=values_of,
        )


def outcomes_of(head: str, items: Sequence[Item], values: Sequence[Sequence[Values]]) -> Outcomes:
    """Comparisons of one example with itself: the pairs that teach the head, or every clean unit with every error."""
    wins, counts = np.zeros(len(items)), np.zeros(len(items))
    for i, (item, answers) in enumerate(zip(items, values, strict=True)):
        if head in TEACHES:
            scores = torch.stack([answer.response(head) for answer in answers])  # (K,)
            pairs = [item.pairs[kind] for kind in TEACHES[head] if kind in item.pairs]
            margins = [
                scores[chosen] - scores[rejected] for chosen, rejected in map(torch.t, pairs)
            ]
        else:
            margins = [_clean_over_error(item, answers, head)]
        for margin in margins:
            wins[i] += float((margin > 0).sum() + 0.5 * (margin == 0).sum())
            counts[i] += len(margin)
    return Outcomes(wins, counts)


def _clean_over_error(item: Item, answers: Sequence[Values], head: str) -> Tensor:
    """Value of each clean unit − value of each error, over all responses. (pairs,)"""
    known = [
        (answer.by_head[head][target.mask], target.labels[target.mask])
        for answer, target in zip(answers, item.targets.get(head, ()), strict=False)
        if target is not None
    ]
    if not known:
        return torch.empty(0)
    values, labels = (torch.cat(parts) for parts in zip(*known, strict=True))
    clean, errors = values[labels > 0.5], values[labels <= 0.5]
    return (clean[:, None] - errors[None, :]).flatten()


def _checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a soup the model it serves: the first group of heads."""
    return {**state, **{name: state[name][:1] for name in (HEAD_WEIGHT, HEAD_BIAS)}}


def _trunk_of_base(manifest: Manifest) -> dict[str, Tensor]:
    assert manifest.base is not None  # a soup of that method is not made without
    trunk = load_base(manifest).state_dict()
    return {BACKBONE + name: tensor for name, tensor in trunk.items()}


def _alike_below(model: RewardModel, differing: Sequence[str]) -> int:
    """How many layers, from the bottom, are the same in all; 0 if they differ outside of the layers."""
    changed = {id(model.get_parameter(n)) for n in differing if n.startswith(BACKBONE)}
    layers = [{id(p) for p in layer.parameters()} for layer in layers_of(model.backbone)]
    if changed - set().union(*layers):
        return 0
    return next((i for i, layer in enumerate(layers) if layer & changed), len(layers))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered from the second on where several are the same."""
    counts = [names[:i].count(name) for i, name in enumerate(names, start=1)]
    return [
        name if count == 1 else f"{name}-{count}" for name, count in zip(names, counts, strict=True)
    ]
