"""The heads that compare whole answers, fitted last, on a dozen numbers about an answer.

A few hundred questions with one annotator each are learnt by heart before the top layers find out what makes an
answer preferred or complete. Marked sentences are more numerous and plainer. So the layers learn from those, and
`preference` and `completeness` are logistic regressions (Bradley–Terry) on

    the evidence about the answer's tokens    how much of it is copied, how long it is (`tureen.text.evidence`)
    what `factuality` and `relevance` make of the answer as a whole

All of these are linear in what a head reads, so the outcome is a head like any other. Each member sees a bag of
questions of its own (Breiman 1996), which makes members that really differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from tureen.model.files import sha256_file
from tureen.model.manifest import read_manifest, write_manifest
from tureen.model.reward_model import EVIDENCE_WIDTH, SHARE_SCALE, RewardModel
from tureen.model.storage import HEAD_BIAS, HEAD_WEIGHT
from tureen_training.data.items import Item, batches, rows_of, tensors
from tureen_training.data.records import TEACHES, Example
from tureen_training.runlog import progress
from tureen_training.trunk import pooled_states

FITTED = ("preference", "completeness")
READ = ("factuality", "relevance")


def features(
    model: RewardModel, items: Sequence[Item], pad_id: int, max_batch_tokens: int
) -> list[np.ndarray]:
    """(K, D) of each question: what the heads see of its whole answers, mean over windows."""
    width = model.heads.width
    sums = [np.zeros((len(item.responses), width)) for item in items]
    with torch.inference_mode(), pooled_states(model):
        for batch in progress(list(batches(rows_of(items), max_batch_tokens)), "features"):
            states = model(**tensors([row.window for row in batch], pad_id))  # (B, N, 1, D)
            for row, state in zip(batch, states[:, 0, 0].numpy(), strict=True):
                windows = len(items[row.item].responses[row.response].windows)
                sums[row.item][row.response] += state / windows
    return sums


def refit(
    directory: Path, states: Sequence[np.ndarray], examples: Sequence[Example], penalty: float
) -> None:
    """Write the fitted heads into every ingredient: member m has seen the m-th bag of questions.

    Args:
        states: of `features`. examples: the same questions. penalty: of `logistic`.

    Raises:
        ValueError: the heads do not read evidence, or one of the four is not there.
    """
    manifest = read_manifest(directory)
    names = [head.name for head in manifest.heads]
    if not manifest.text.compares or not {*FITTED, *READ} <= set(names):
        raise ValueError(
            f"{directory} reads text by {manifest.text.template!r} and has the heads {', '.join(names)}; refit "
            f"needs text.template 'evidence' and the heads {', '.join((*FITTED, *READ))}"
        )
    means = np.concatenate(states).mean(axis=0)  # (D,)
    written = []
    for number, ingredient in enumerate(manifest.ingredients):
        bag = np.random.default_rng(number).integers(len(states), size=len(states)).tolist()
        stored = load_file(directory / ingredient.file)
        weight, bias = stored[HEAD_WEIGHT].double().numpy(), stored[HEAD_BIAS]
        basis = np.vstack(
            [weight[[names.index(head) for head in READ]], evidence_basis(len(means))]
        )
        for head in FITTED:
            moves = [differences(states[i] @ basis.T, examples[i], head) for i in bag]
            weight[names.index(head)] = logistic(np.concatenate(moves), penalty) @ basis
            bias[names.index(head)] = 0.0
        stored[HEAD_WEIGHT] = torch.from_numpy(neutral_without_context(weight, means)).float()
        save_file(stored, directory / ingredient.file, metadata={"format": "pt"})
        digest = sha256_file(directory / ingredient.file)
        written.append(dataclasses.replace(ingredient, sha256=digest))
    write_manifest(directory, dataclasses.replace(manifest, ingredients=tuple(written)))


def evidence_basis(width: int) -> np.ndarray:
    """(EVIDENCE_WIDTH, D): rows that pick the evidence out of what a head reads."""
    return np.eye(width)[-EVIDENCE_WIDTH:]


def differences(x: np.ndarray, example: Example, head: str) -> np.ndarray:
    """(P, F): chosen − rejected of every comparison that teaches the head. x: (K, F)."""
    pairs = [pair for kind in TEACHES[head] for pair in example.pairs.get(kind, ())]
    rows = [x[pair.chosen] - x[pair.rejected] for pair in pairs]
    return np.array(rows).reshape(len(rows), x.shape[1])


def logistic(moves: np.ndarray, penalty: float) -> np.ndarray:
    """(F,): argmin_w Σ −log σ(moves · w) + penalty / 2 · |w · sd|², sd the root mean square of the moves.

    Args:
        moves: (P, F), chosen − rejected. A number that never differs gets 0.
    """
    scale = np.sqrt((moves**2).mean(axis=0))
    scale[scale == 0] = 1.0
    z = moves / scale
    # Each comparison from both sides, so that there are two classes; half the weight each.
    model = LogisticRegression(C=1 / penalty, fit_intercept=False)
    sides = np.repeat([1, 0], len(z))
    model.fit(np.concatenate([z, -z]), sides, sample_weight=np.full(2 * len(z), 0.5))
    return model.coef_[0] / scale


def neutral_without_context(weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The same heads, for which an answer without context is as one whose evidence is average.

    No training answer came without context. weight: (H, D). means: (D,) of training answers.
    """
    weight = weight.copy()
    first = weight.shape[1] - EVIDENCE_WIDTH  # the share without context; the last is the length
    compared = slice(first + 1, -1)
    weight[:, first] = weight[:, compared] @ means[compared] / SHARE_SCALE
    return weight
