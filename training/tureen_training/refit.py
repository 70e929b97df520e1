"""The heads that are fitted last, on a dozen numbers each.

A few hundred questions with one annotator each are learnt by heart before the top layers find out what makes an
answer preferred, complete or to the point. So the layers learn from marked sentences, of which there are most, and
three heads are logistic regressions:

`preference` and `completeness` (Bradley–Terry), on
    the evidence about the answer's tokens    how much of it is copied, how long it is (`tureen.text.evidence`)
    what `factuality` and the trained `relevance` make of the answer as a whole
`relevance`, on a unit's length and `tureen.text.unit_features`

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
from torch import Tensor

from tureen.contracts import Granularity
from tureen.model.files import sha256_file
from tureen.model.manifest import Ingredient, read_manifest, write_manifest
from tureen.model.reward_model import EVIDENCE_WIDTH, SHARE_SCALE, RewardModel
from tureen.model.storage import HEAD_BIAS, HEAD_WEIGHT
from tureen.text.unit_features import UNIT_FEATURES
from tureen_training.data.items import Item, batches, rows_of, tensors
from tureen_training.data.records import TEACHES, Example
from tureen_training.runlog import progress
from tureen_training.trunk import pooled_states

FITTED = ("preference", "completeness")
READ = ("factuality", "relevance")
MARKED = "relevance"

_EVIDENCE = slice(-EVIDENCE_WIDTH - UNIT_FEATURES, -UNIT_FEATURES)


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


def widen(directory: Path) -> None:
    """Let the heads of a soup read unit features too; those that were trained do not heed them.

    Raises:
        ValueError: the heads do not read evidence, or one of the four is not there.
    """
    manifest = read_manifest(directory)
    names = [head.name for head in manifest.heads]
    if not manifest.text.compares or not {*FITTED, *READ} <= set(names):
        raise ValueError(
            f"{directory} reads text by {manifest.text.template!r} and has the heads {', '.join(names)}; refit "
            f"needs text.template 'evidence' or 'evidence-2' and the heads {', '.join((*FITTED, *READ))}"
        )
    if manifest.text.describes_units:
        return
    text = dataclasses.replace(manifest.text, template="evidence-2")
    columns = torch.zeros(len(names), UNIT_FEATURES)
    written = []
    for ingredient in manifest.ingredients:
        stored = load_file(directory / ingredient.file)
        stored[HEAD_WEIGHT] = torch.cat([stored[HEAD_WEIGHT], columns], dim=1)
        written.append(_stored(directory, ingredient, stored))
    write_manifest(directory, dataclasses.replace(manifest, text=text, ingredients=tuple(written)))


def refit(
    directory: Path, states: Sequence[np.ndarray], items: Sequence[Item], penalty: float
) -> None:
    """Write the fitted heads into every ingredient of a widened soup: member m has seen the m-th bag of questions.

    Args:
        states: of `features`, of the items. penalty: of `logistic` and `clean_or_error`.

    Raises:
        ValueError: the soup was not widened; or it was refitted before, and the trained `relevance` that the
            others read is gone; or a bag has no clean unit, or no error.
    """
    manifest = read_manifest(directory)
    if not manifest.text.describes_units:
        raise ValueError(
            f"{directory} reads text by {manifest.text.template!r}; widen it, then take its features"
        )
    names = [head.name for head in manifest.heads]
    means = np.concatenate(states).mean(axis=0)  # (D,)
    marked = [units(item) for item in items]
    written = []
    for number, ingredient in enumerate(manifest.ingredients):
        bag = np.random.default_rng(number).integers(len(states), size=len(states)).tolist()
        stored = load_file(directory / ingredient.file)
        weight, bias = stored[HEAD_WEIGHT].double().numpy(), stored[HEAD_BIAS]
        if weight[names.index(MARKED), -UNIT_FEATURES:].any():
            raise ValueError(
                f"{directory / ingredient.file} was refitted before; begin with the soup as trained"
            )
        basis = np.vstack(
            [weight[[names.index(head) for head in READ]], evidence_basis(len(means))]
        )
        for head in FITTED:
            moves = [differences(states[i] @ basis.T, items[i].example, head) for i in bag]
            weight[names.index(head)] = logistic(np.concatenate(moves), penalty) @ basis
            bias[names.index(head)] = 0.0
        x, clean = (np.concatenate(parts) for parts in zip(*(marked[i] for i in bag), strict=True))
        place = names.index(MARKED)
        weight[place] = 0.0
        weight[place, -x.shape[1] :], bias[place] = clean_or_error(x, clean, penalty)
        stored[HEAD_WEIGHT] = torch.from_numpy(neutral_without_context(weight, means)).float()
        written.append(_stored(directory, ingredient, stored))
    write_manifest(directory, dataclasses.replace(manifest, ingredients=tuple(written)))


def _stored(directory: Path, ingredient: Ingredient, tensors: dict[str, Tensor]) -> Ingredient:
    save_file(tensors, directory / ingredient.file, metadata={"format": "pt"})
    return dataclasses.replace(ingredient, sha256=sha256_file(directory / ingredient.file))


def evidence_basis(width: int) -> np.ndarray:
    """(EVIDENCE_WIDTH, D): rows that pick the evidence out of what a head reads."""
    return np.eye(width)[_EVIDENCE]


def units(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1 + UNIT_FEATURES) and (n,) bool: what `relevance` reads of each unit that counts; whether it is clean."""
    x, clean = [np.zeros((0, 1 + UNIT_FEATURES))], [np.zeros(0, bool)]
    for response, target in zip(item.responses, item.targets.get(MARKED, ()), strict=False):
        if target is None:
            continue
        window = response.windows[0]  # the response is whole in each
        assert window.unit_features is not None  # the soup was widened
        kinds = [unit.granularity is Granularity.SUB_SENTENCE for unit in response.units]
        sizes = np.log(window.spans[kinds, 1] - window.spans[kinds, 0])
        mask = target.mask.numpy()
        x.append(np.column_stack([sizes, window.unit_features[kinds]])[mask])
        clean.append(target.labels.numpy()[mask] > 0)
    return np.concatenate(x), np.concatenate(clean)


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


def clean_or_error(x: np.ndarray, clean: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """w (F,), b: argmin Σ log(1 + exp(−y (x · w + b))) + penalty / 2 · |w · sd|², y = 1 if clean, −1 if an error.

    Args:
        x: (n, F). A number that is always the same gets 0. clean: (n,) bool.

    Raises:
        ValueError: all are clean, or none is.
    """
    if clean.all() or not clean.any():
        raise ValueError(
            f"of {len(clean)} marked units {clean.sum()} are clean; {MARKED} is fitted on clean ones "
            "and errors: give more questions, or no refit_penalty"
        )
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    model = LogisticRegression(C=1 / penalty).fit((x - mean) / scale, clean)
    weight = model.coef_[0] / scale
    return weight, float(model.intercept_[0] - mean @ weight)


def neutral_without_context(weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The same heads, for which an answer without context is as one whose evidence is average.

    No training answer came without context. weight: (H, D). means: (D,) of training answers.
    """
    weight = weight.copy()
    first = weight.shape[1] + _EVIDENCE.start  # the share without context; the last is the length
    compared = slice(first + 1, _EVIDENCE.stop - 1)
    weight[:, first] = weight[:, compared] @ means[compared] / SHARE_SCALE
    return weight
