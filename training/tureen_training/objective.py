"""From what the model says of some prompts to one loss, whatever kind of feedback they carry.

Comparisons, spans, verdicts and marks of one run meet here: each head learns from every kind that speaks of it, and
a prompt with several kinds is still one forward pass for each of its responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tureen_training import losses
from tureen_training.data.items import Item, Target, Values
from tureen_training.data.records import HIGHEST_RATING, LOWEST_RATING, TEACHES, Example, Pair

UNRELIABLE, RELIABLE = 0.5, 1.0 - 1e-6
"""Range of a rater's reliability: ½ is a coin, and 1 would make the loss of a contradicted pair infinite."""
START_RELIABILITY = 0.9


@dataclass(slots=True)
class HeadLoss:
    """What one head has to learn from some prompts. total: sum of its terms, with gradients. terms: how many."""

    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    terms: int = 0

    def add(self, term: Tensor) -> None:
        self.total = self.total + term
        self.terms += 1


class Objective(nn.Module):
    """The loss of each head, and what has to be learnt of the annotators to compute it.

    Its parameters are left behind at the end of a run: how reliable each rater is (with `raters`), and for each
    head that learns from marks where one mark ends and the next begins, on the scale of its values.
    """

    def __init__(
        self,
        heads: Sequence[str],
        *,
        error_weight: Mapping[str, float],
        centring: float = 0.0,
        label_smoothing: float = 0.0,
        raters: Iterable[str] = (),
        rated: Iterable[str] = (),
    ) -> None:
        """
        Args:
            error_weight: head -> weight of an error against what is clean; 1 where it is absent.
            centring: η of `losses.centring`. label_smoothing: ε of `losses.bradley_terry`.
            raters: learn how reliable each of them is; empty takes every comparison at its word.
            rated: heads that learn from marks.
        """
        super().__init__()
        self.heads = tuple(heads)
        self.error_weight = dict(error_weight)
        self.centring = centring
        self.label_smoothing = label_smoothing
        self._raters = {name: index for index, name in enumerate(sorted(set(raters)))}
        start = (START_RELIABILITY - UNRELIABLE) / (RELIABLE - UNRELIABLE)
        self._reliability = nn.Parameter(
            torch.full((len(self._raters),), start).logit()
        )  # (raters,) logits
        middle = torch.arange(HIGHEST_RATING - LOWEST_RATING)
        self.thresholds = nn.ParameterDict(
            {head: nn.Parameter(middle - middle.mean()) for head in sorted(set(rated))}
        )  # each (4,)

    def forward(
        self, items: Sequence[Item], values: Sequence[Sequence[Values]]
    ) -> dict[str, HeadLoss]:
        """Head -> its loss over these prompts.

        Terms are one for each kind of comparison of a prompt, one for each response with spans, one for the
        verdicts of a prompt, one for its marks.
        """
        found = {head: HeadLoss() for head in self.heads}
        for item, answers in zip(items, values, strict=True):
            for head, loss in found.items():
                self._compare(loss, head, item, answers)
                self._judge_units(loss, head, item, answers)
                self._judge_responses(loss, head, item, answers)
                self._rate(loss, head, item.example, answers)
        return found

    def reliabilities(self) -> dict[str, float]:
        """Rater -> η as learnt so far: how often they mean what they say."""
        values = self._eta().tolist()
        return {name: round(values[index], 4) for name, index in self._raters.items()}

    def _eta(self) -> Tensor:
        """Crowd-BT's η, kept in [½, 1) by its form. (raters,)"""
        return UNRELIABLE + (RELIABLE - UNRELIABLE) * torch.sigmoid(self._reliability)

    def _compare(self, loss: HeadLoss, head: str, item: Item, answers: Sequence[Values]) -> None:
        kinds = [kind for kind in TEACHES.get(head, ()) if kind in item.pairs]
        if not kinds:
            return
        scores = torch.stack([answer.response(head) for answer in answers])  # (K,)
        for kind in kinds:
            pairs, given = item.pairs[kind], item.example.pairs[kind]
            term = losses.ranking(
                scores,
                pairs,
                margins=torch.tensor([pair.margin for pair in given]),
                weights=torch.tensor([pair.weight for pair in given]),
                label_smoothing=0.0 if self._raters else self.label_smoothing,
                reliability=self._reliability_of(given) if self._raters else None,
            )
            loss.add(term + self.centring * losses.centring(scores, pairs))

    def _reliability_of(self, pairs: Sequence[Pair]) -> Tensor:
        """η of the rater of each pair; a pair of nobody, made and not judged, is taken at its word. (P,)"""
        named = torch.tensor([pair.rater is not None for pair in pairs])
        places = torch.tensor([self._raters[pair.rater] if pair.rater else 0 for pair in pairs])
        return torch.where(named, self._eta()[places], RELIABLE)

    def _judge_units(
        self, loss: HeadLoss, head: str, item: Item, answers: Sequence[Values]
    ) -> None:
        if head not in item.targets:
            return
        weight = self.error_weight.get(head, 1.0)
        for answer, target in zip(answers, item.targets[head], strict=True):
            if target is not None and says_something(target):
                units = answer.by_head[head]
                loss.add(losses.segment_bce(units, target.labels, target.mask, weight))

    def _judge_responses(
        self, loss: HeadLoss, head: str, item: Item, answers: Sequence[Values]
    ) -> None:
        """A verdict labels a response as a whole: the mean over its units, which is what is served.

        Where spans say of the same response which units are at fault, the verdict adds nothing and is left out.
        """
        targets = item.targets.get(head, (None,) * len(answers))
        judged = [
            (k, clean)
            for k, clean in enumerate(item.example.verdicts.get(head, ()))
            if clean is not None and not says_something(targets[k])
        ]
        if judged:
            values = torch.stack([answers[k].response(head) for k, _ in judged])
            labels = torch.tensor([float(clean) for _, clean in judged])
            weight = self.error_weight.get(head, 1.0)
            loss.add(losses.segment_bce(values, labels, torch.ones(len(judged)).bool(), weight))

    def _rate(self, loss: HeadLoss, head: str, example: Example, answers: Sequence[Values]) -> None:
        ratings = example.ratings.get(head, ())
        if ratings:
            values = torch.stack([answers[rating.response].response(head) for rating in ratings])
            grades = torch.tensor([rating.value - LOWEST_RATING for rating in ratings])
            loss.add(losses.ordinal(values, grades, self.thresholds[head]))


def says_something(target: Target | None) -> bool:
    """Whether any unit counts."""
    return target is not None and bool(target.mask.any())


def taught_by(example: Example, head: str) -> bool:
    """Whether an example has anything to say to a head."""
    return bool(
        any(example.pairs.get(kind) for kind in TEACHES.get(head, ()))
        or any(labels is not None for labels in example.spans.get(head, ()))
        or any(verdict is not None for verdict in example.verdicts.get(head, ()))
        or example.ratings.get(head)
    )


def raters_of(items: Iterable[Item]) -> set[str]:
    """Everybody who compared something."""
    return {
        pair.rater
        for item in items
        for pairs in item.example.pairs.values()
        for pair in pairs
        if pair.rater is not None
    }


def weigh(
    found: Mapping[str, HeadLoss], counts: Mapping[str, int], emphasis: Mapping[str, float]
) -> Tensor:
    """Σ_h emphasis_h · total_h / counts_h, a head without terms left out.

    Args:
        counts: terms of each head over all processes, so that a prompt weighs the same wherever it is computed.
        emphasis: 1 where a head is absent.
    """
    total = torch.zeros(())
    for head, loss in found.items():
        if counts[head]:
            total = total + emphasis.get(head, 1.0) * loss.total / counts[head]
    return total
