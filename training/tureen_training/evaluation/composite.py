"""Scores that are made of parts: subsets weighted into domains, domains into scores, and the worst domain.

    subset   the mean of its rows, or another measure of them
    domain   Σ_s w_s · subset_s / Σ_s w_s
    score    Σ_d w_d · domain_d / Σ_d w_d
    worst    the least of the domains. A mean hides a domain that a policy would exploit; worst-domain scores went
             along with what policies learn (Frick et al. 2024, arXiv:2410.14872)

Prompts of all subsets are resampled together. A subset that a resample misses takes no part in it, as one that is
not there takes none in the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tureen_training import metrics
from tureen_training.data.records import Comparison
from tureen_training.evaluation.comparisons import Read, pair_margins
from tureen_training.metrics import Figure

Weights = Mapping[str, float]
Measure = Callable[[np.ndarray], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """domains: name -> subset -> weight. scores: name -> domain -> weight. worst_of: domains to take the least of.
    measures: of subsets that are not the mean of their rows."""

    domains: Mapping[str, Weights]
    scores: Mapping[str, Weights]
    worst_of: Sequence[str]
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def of_subset(self, name: str) -> Measure:
        return self.measures.get(name, _mean_of_rows)

    @property
    def subsets_of(self) -> dict[str, Collection[str]]:
        """Domain -> its subsets, subset -> itself."""
        alone = {subset: (subset,) for own in self.domains.values() for subset in own}
        return {**alone, **self.domains}


Rows = Mapping[str, np.ndarray]
"""Subset -> rows of its prompts. (I, C)"""


def _mean_of_rows(rows: np.ndarray) -> float:
    return float(rows[:, 0].mean())


def values(structure: Structure, subsets: Rows) -> dict[str, float]:
    """Every score, `worst_domain`, every domain and every subset; NaN where none of its parts is there."""
    means = {name: structure.of_subset(name)(rows) for name, rows in subsets.items() if len(rows)}
    domains = {name: _weighted(means, own) for name, own in structure.domains.items()}
    known = {name: value for name, value in domains.items() if not np.isnan(value)}
    worst = min((known[name] for name in structure.worst_of if name in known), default=np.nan)
    scores = {name: _weighted(known, own) for name, own in structure.scores.items()}
    return {**scores, "worst_domain": worst, **means, **domains}


def _weighted(parts: Weights, weights: Weights) -> float:
    known = {name: weight for name, weight in weights.items() if name in parts}
    total = sum(known.values())
    return sum(parts[name] * weight for name, weight in known.items()) / total if total else np.nan


def figures(
    groups: Mapping[str, Sequence[np.ndarray]],
    measure: Callable[[Rows], Mapping[str, float]],
    baselines: Iterable[tuple[str, Rows]],
    subsets_of: Mapping[str, Collection[str]],
) -> dict[str, Figure]:
    """What `measure` makes of the rows of all subsets, each number with its interval.

    Args:
        groups: subset -> rows of each prompt. (I, C) each; C may differ between subsets.
        measure: as `values` with its structure.
        baselines: name -> rows of what reads nothing, of the same subsets.
        subsets_of: figure -> the subsets that it is made of, for its counts; one that is not named is made of all.
    """
    names = list(groups)
    width = 1 + max(rows.shape[1] for own in groups.values() for rows in own)
    coded = [
        _coded(place, rows, width) for place, subset in enumerate(names) for rows in groups[subset]
    ]
    trivial = {name: measure(rows) for name, rows in baselines}

    def of(rows: np.ndarray) -> dict[str, float]:
        found = measure(_by_subset(rows, groups, names))
        return {name: value for name, value in found.items() if not np.isnan(value)}

    found = metrics.bootstrap_all(
        coded,
        of,
        baselines={
            what: {name: own[what] for name, own in trivial.items()}
            for what in of(np.concatenate(coded))
        },
    )
    return {
        what: replace(
            figure,
            n=sum(len(rows) for subset in subsets_of.get(what, names) for rows in groups[subset]),
            prompts=sum(len(groups[subset]) for subset in subsets_of.get(what, names)),
        )
        for what, figure in found.items()
    }


def _coded(place: int, rows: np.ndarray, width: int) -> np.ndarray:
    """(I, width): the subset's place, its rows, and nothing."""
    coded = np.full((len(rows), width), np.nan)
    coded[:, 0] = place
    coded[:, 1 : 1 + rows.shape[1]] = rows
    return coded


def _by_subset(coded: np.ndarray, groups: Mapping[str, Sequence], names: Sequence[str]) -> Rows:
    return {
        name: coded[own, 1 : 1 + groups[name][0].shape[1]]
        for place, name in enumerate(names)
        if (own := coded[:, 0] == place).any()
    }


def length_margins(
    read: Mapping[str, Sequence[Read]], kind: Comparison
) -> Iterator[tuple[str, dict[str, list[np.ndarray]]]]:
    """`longer` and `shorter`, each with what such a reward makes of the pairs of each example, by subset. (P,) each"""
    for name, sign in (("longer", 1.0), ("shorter", -1.0)):
        yield (
            name,
            {
                subset: [
                    pair_margins(example, kind, [sign * len(text) for text in example.responses])
                    for example, _ in own
                ]
                for subset, own in read.items()
            },
        )
