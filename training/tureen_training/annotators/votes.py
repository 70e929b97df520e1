"""Who said what of which item, as arrays.

Legend: N votes, I items, R raters, C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tureen.errors import nearest


class NoVotes(ValueError):
    """There is nothing to measure."""


class Vote(NamedTuple):
    """One label given by one rater to one item; a rater may vote on an item more than once."""

    item: str
    rater: str
    label: str


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes with their names.

    items, raters: in the order of first appearance. labels: in the order of their scale, if they have one.
    codes: indices into the three, one row a vote. (N, 3)
    """

    items: tuple[str, ...]
    raters: tuple[str, ...]
    labels: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, votes: Iterable[Vote], labels: Sequence[str]) -> Votes:
        """Raises NoVotes, and ValueError for a label that is not among `labels`."""
        votes = list(votes)
        if not votes:
            raise NoVotes("there are no votes")
        items = {name: code for code, name in enumerate(dict.fromkeys(v.item for v in votes))}
        raters = {name: code for code, name in enumerate(dict.fromkeys(v.rater for v in votes))}
        known = {name: code for code, name in enumerate(labels)}
        for vote in votes:
            if vote.label not in known:
                raise ValueError(
                    f"rater {vote.rater!r} gave {vote.item!r} the label {vote.label!r}"
                    f"{nearest(vote.label, known)}"
                )
        codes = [(items[v.item], raters[v.rater], known[v.label]) for v in votes]
        return cls(tuple(items), tuple(raters), tuple(labels), np.array(codes))

    def counts(self) -> np.ndarray:
        """How often each rater gave each label to each item. (I, R, C)"""
        shape = (len(self.items), len(self.raters), len(self.labels))
        counts = np.zeros(shape, dtype=np.int64)
        np.add.at(counts, tuple(self.codes.T), 1)
        return counts

    def table(self) -> np.ndarray:
        """Each rater's label code of each item; NaN where there is none, or more than one vote. (I, R)"""
        counts = self.counts()
        return np.where(counts.sum(axis=2) == 1, counts.argmax(axis=2), np.nan)

    def item_counts(self) -> np.ndarray:
        """How often each item got each label. (I, C)"""
        counts = np.zeros((len(self.items), len(self.labels)), dtype=np.int64)
        np.add.at(counts, (self.codes[:, 0], self.codes[:, 2]), 1)
        return counts

    def only(self, keep: np.ndarray) -> Votes:
        """The votes for which `keep` (N,) is True; items and raters without any are gone. Raises NoVotes."""
        codes = self.codes[keep]
        if not len(codes):
            raise NoVotes("there are no votes")
        items, item_codes = np.unique(codes[:, 0], return_inverse=True)
        raters, rater_codes = np.unique(codes[:, 1], return_inverse=True)
        return Votes(
            tuple(self.items[i] for i in items),
            tuple(self.raters[r] for r in raters),
            self.labels,
            np.stack([item_codes, rater_codes, codes[:, 2]], axis=1),
        )

    def shared(self) -> Votes:
        """Only the items that at least two raters voted on. Raises NoVotes."""
        voters = (self.counts().sum(axis=2) > 0).sum(axis=1)  # (I,)
        return self.only(voters[self.codes[:, 0]] >= 2)
