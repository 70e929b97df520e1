"""The preference head anew, by ridge regression on the soup's own features, one bag of questions a member.

A few hundred questions are learnt by heart before a head learns what its annotators like. Four hundred
coefficients under a strong penalty cannot be, and bags make members that really differ. The target of a
response, both parts centred on its question and scaled alike, is

    net human preferences (won − lost) + share of its word pairs that stand in the passages

The second part is no opinion of a person: it is what orders 59 % of the human comparisons by itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tureen.model.files import sha256_file
from tureen.model.manifest import read_manifest, write_manifest
from tureen.model.reward_model import RewardModel
from tureen.model.storage import HEAD_BIAS, HEAD_WEIGHT
from tureen_training.data.items import Item, batches, rows_of, tensors
from tureen_training.data.qa_feedback import PREDICTIONS
from tureen_training.data.records import Comparison, Example
from tureen_training.runlog import progress
from tureen_training.trunk import pooled_states

HEAD = "preference"
_WORD = re.compile(r"\w+")


def word_pairs(text: str) -> list[tuple[str, str]]:
    words = _WORD.findall(text.lower())
    return list(itertools.pairwise(words))


def grounded_share(response: str, context: Sequence[str]) -> float:
    """Share of the response's word pairs that stand in some passage; 0 where it has no pair."""
    known = {pair for passage in context for pair in word_pairs(passage)}
    own = word_pairs(response)
    return sum(pair in known for pair in own) / len(own) if own else 0.0


def targets(example: Example) -> np.ndarray:
    """(K,) of the sampled answers, summing to 0."""
    net = np.zeros(PREDICTIONS)
    for pair in example.pairs.get(Comparison.PREFERENCE, ()):
        net[pair.chosen] += 1
        net[pair.rejected] -= 1
    share = np.array([grounded_share(r, example.context) for r in example.responses[:PREDICTIONS]])
    return _scaled(net) + _scaled(share)


def _scaled(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    spread = centred.std()
    return centred / spread if spread > 0 else centred


def features(
    model: RewardModel, items: Sequence[Item], pad_id: int, max_batch_tokens: int
) -> np.ndarray:
    """(questions, K, D) pooled states of the sampled answers, mean over windows: what the heads see."""
    width = model.heads.weight.shape[2]
    sums = np.zeros((len(items), PREDICTIONS, width))
    counts = np.zeros((len(items), PREDICTIONS, 1))
    rows = [row for row in rows_of(items) if row.response < PREDICTIONS]
    with torch.inference_mode(), pooled_states(model):
        for batch in progress(list(batches(rows, max_batch_tokens)), "features"):
            states = model(**tensors([row.window for row in batch], pad_id))  # (B, N, 1, D)
            for row, state in zip(batch, states[:, 0, 0].numpy(), strict=True):
                sums[row.item, row.response] += state
                counts[row.item, row.response] += 1
    return sums / counts


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """argmin_w |x w − y|² + penalty · |w · sd|², sd the standard deviations of x. (R, D), (R,) -> (D,)."""
    sd = x.std(axis=0)
    z = x / sd
    return np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ y) / sd


def refit(directory: Path, states: np.ndarray, examples: Sequence[Example], penalty: float) -> None:
    """Write a new preference head into every ingredient: member m has seen the m-th bag of questions.

    Args:
        states: (questions, K, D) of `features`. examples: the questions, with all of their passages.
    """
    x = states - states.mean(axis=1, keepdims=True)  # what differs within a question
    y = np.stack([targets(example) for example in examples])
    manifest = read_manifest(directory)
    column = next(h for h, head in enumerate(manifest.heads) if head.name == HEAD)
    written = []
    for number, ingredient in enumerate(manifest.ingredients):
        bag = np.random.default_rng(number).integers(len(x), size=len(x))
        weight = ridge(x[bag].reshape(-1, x.shape[2]), y[bag].reshape(-1), penalty)
        path = directory / ingredient.file
        stored = load_file(path)
        stored[HEAD_WEIGHT][column] = torch.from_numpy(weight).float()
        stored[HEAD_BIAS][column] = 0.0
        save_file(stored, path, metadata={"format": "pt"})
        written.append(dataclasses.replace(ingredient, sha256=sha256_file(path)))
    write_manifest(directory, dataclasses.replace(manifest, ingredients=tuple(written)))
