"""One suite of one run, as the suite's module sees it: what is judged, the data, and where results go.

A suite is a module with one entry function, `evaluate(job) -> figures`, named in `suites.SUITES`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tureen_training.data.records import Split
from tureen_training.evaluation.config import Config
from tureen_training.evaluation.files import find
from tureen_training.evaluation.language_models import LanguageModel
from tureen_training.evaluation.scorers import Scorer
from tureen_training.evaluation.subjects import Subject, Subjects
from tureen_training.judge.client import Judge
from tureen_training.metrics import Figure

ItemT = TypeVar("ItemT")
Figures = Mapping[str, Figure]


@dataclass(slots=True, kw_only=True)
class Job:
    """suite: its name. data: a local directory. split: None is all of it. out: the suite's own directory, if any.

    notes: what a reader of the figures has to know; said: those that were printed at once. facts: what report.json
    says beside the figures.
    """

    suite: str
    config: Config
    data: Path
    split: Split | None
    out: Path | None
    subjects: Subjects
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Says it at once, before minutes of work, and in the report."""
        print(f"note: {text}", file=sys.stderr)  # noqa: T201
        self.notes.append(text)
        self.said.append(text)

    def has(self, subject: Subject) -> bool:
        return subject in self.subjects.given

    @property
    def scorer(self) -> Scorer:
        """The reward model; the suite may ask it where `has(Subject.REWARD)`."""
        scorer = self.subjects.scorer
        self._judged(Subject.REWARD, scorer.model.model_id, scorer.model.fingerprint)
        return scorer

    @property
    def language_model(self) -> LanguageModel:
        """The policy, causal or masked."""
        model = self.subjects.policy
        self._judged(Subject.POLICY, model.name, model.fingerprint)
        return model

    @property
    def policy(self) -> LanguageModel:
        """The policy; raises ValueError where it is a masked language model."""
        return self._causal(self.language_model)

    @property
    def two_policies(self) -> tuple[LanguageModel, LanguageModel]:
        """Before and after; raises ValueError where one is a masked language model."""
        before, after = map(self._causal, self.subjects.two_policies)
        self._judged(
            Subject.TWO_POLICIES,
            f"{before.name} → {after.name}",
            f"{before.fingerprint} → {after.fingerprint}",
        )
        return before, after

    @property
    def judge(self) -> Judge:
        judge = self.subjects.judge
        self._judged(Subject.JUDGE, judge.model, judge.url)
        return judge

    def file(self, folder: str, *stems: str) -> Path:
        """The data file called one of `stems`, in the directory given or in its `folder`, for `files.rows`.

        Raises:
            FileNotFoundError: it is not there.
        """
        return find(self.data, folder, *stems)

    def results(self, part: str = "") -> Path | None:
        """Where per-item results go: results.jsonl, or results.PART.jsonl; None where nothing is kept."""
        return None if self.out is None else self.out / f"results{part and '.'}{part}.jsonl"

    def limited(self, items: Sequence[ItemT], name: Callable[[ItemT], str]) -> list[ItemT]:
        """The first `limit` of the configuration by the hash of their names, with a note."""
        limit = self.config.limit
        text = f"only the first {limit} prompts of each part, by hash of their id"
        if limit is not None and text not in self.notes:
            self.note(text)
        return limited(items, limit, name)

    def _causal(self, model: LanguageModel) -> LanguageModel:
        if model.masked:
            raise ValueError(
                f"{model.name} is a masked language model, which cannot go on writing; the suite {self.suite} "
                "needs a causal one"
            )
        return model

    def _judged(self, subject: Subject, name: str, fingerprint: str) -> None:
        known = self.facts.setdefault("judged", [])
        entry = {"what": subject.value, "name": name, "fingerprint": fingerprint}
        if entry not in known:
            known.append(entry)


def limited(items: Sequence[ItemT], limit: int | None, name: Callable[[ItemT], str]) -> list[ItemT]:
    """The first `limit` by the hash of their name, in the order given: the same ones whatever else is there."""
    if limit is None or limit >= len(items):
        return list(items)

    def rank(item: ItemT) -> bytes:
        return hashlib.sha256(name(item).encode()).digest()

    last = sorted(map(rank, items))[limit - 1]
    return [item for item in items if rank(item) <= last]
