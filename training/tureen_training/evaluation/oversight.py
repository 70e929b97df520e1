"""Suite `oversight`: where reward, judge and people differ, for people to look at.

Each pair of responses that people compared is one item with up to three votes, first, second or tie: the majority of
the people, the sign of the difference of rewards, and a judge who compares in both orders (what turns with the order is
a tie).

    A_B_kappa       Cohen's κ of two of them: human_reward, human_judge, reward_judge
    A_B_agreement   share of the items on which they say the same
    alpha           Krippendorff's α (nominal) of all that are there
    human_alpha     the same among the people themselves, where several judged an item: what a model could reach at best
    no_verdict      share of the items without a verdict of the judge

`disagreements.jsonl` has the items on which the reward and a decided majority, or the reward and a decided judge, say
opposite things, the surest reward first: |difference of rewards| in standard deviations of it. The report shows the
first ones. Baseline of a κ with people: that of "longer wins"; chance is 0.

Data: `--responses FILE` with comparisons by named raters, in our own format or any that is known; else pandalm_human
and tulu_human in `data`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from tureen.model.files import write_atomically
from tureen_training import metrics
from tureen_training.annotators.agreement import cohen_kappa, krippendorff_alpha
from tureen_training.annotators.opinions import opinions
from tureen_training.data.corpora import open_file
from tureen_training.data.records import Example
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.subjects import Subject
from tureen_training.evaluation.verdicts import Question, verdicts
from tureen_training.judge.errors import Failure
from tureen_training.judge.pairwise import BothOrders
from tureen_training.judge.rubric import load_rubric, prompt_text
from tureen_training.metrics import Figure

FOLDER = "ranked_responses"
FILES = ("pandalm_human", "tulu_human")
HUMAN, REWARD, JUDGE = "human", "reward", "judge"
VOICES: Final = (HUMAN, REWARD, JUDGE)
SHOWN = 10
"""Disagreements in the report; all are in the file."""


@dataclass(frozen=True, slots=True)
class Item:
    """Two responses, the one of the lower index first.

    people: votes second, tie, first. votes: voice -> 1, 0, −1 of the first response. margin: of the rewards.
    """

    example: Example
    first: int
    second: int
    people: tuple[int, int, int]
    votes: Mapping[str, int]
    margin: float | None = None


def evaluate(job: Job) -> dict[str, Figure]:
    examples = [e for e in _examples(job) if job.split is None or e.split == job.split]
    examples = job.limited(examples, lambda e: e.prompt_id)
    items = list(items_of(examples))
    if not items:
        raise ValueError("no pair of responses was compared by a named rater")
    figures: dict[str, Figure] = {}
    if job.has(Subject.REWARD):
        rewards: dict[str, Sequence[float]] = {}

        def keep(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
            own = read["prompts"]
            rewards.update({e.prompt_id: [r.reward for r in readings] for e, readings in own})
            return {}

        figures |= scored(job, {"prompts": examples}, keep)
        items = [_with_reward(item, rewards.get(item.example.prompt_id)) for item in items]
    if job.has(Subject.JUDGE):
        items = _with_judge(job, items)
        lost = [np.array([float(JUDGE not in item.votes)]) for item in items]
        figures["no_verdict"] = metrics.mean(lost, baselines={"none": 0.0})
    listed = [as_record(item, size) for item, size in disagreements(items)]
    job.facts["disagreements"] = {
        "found": len(listed),
        "items": len(items),
        "first": listed[:SHOWN],
    }
    if job.out is not None:
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in listed)
        job.out.mkdir(parents=True, exist_ok=True)
        write_atomically(job.out / "disagreements.jsonl", text)
    return {**agreement(items), **figures}


def _examples(job: Job) -> Iterator[Example]:
    if job.config.responses:
        yield from open_file(Path(job.config.responses))
        return
    for name in FILES:
        yield from open_file(job.file(FOLDER, name))


def items_of(examples: Sequence[Example]) -> Iterator[Item]:
    """Every two responses that a named rater compared; the majority of the people is 0 where they are even."""
    for example in examples:
        votes: dict[tuple[int, int], Counter[int]] = {}
        for opinion in opinions([example]):
            sign = int(np.sign(opinion.advantage))
            votes.setdefault((opinion.first, opinion.second), Counter())[sign] += 1
        for (first, second), count in votes.items():
            people = (count[-1], count[0], count[1])
            most = [sign for sign in (-1, 0, 1) if count[sign] == max(people)]
            human = most[0] if len(most) == 1 else 0
            yield Item(example, first, second, people, {HUMAN: human})


def _with_reward(item: Item, rewards: Sequence[float] | None) -> Item:
    if rewards is None:
        return item
    margin = rewards[item.first] - rewards[item.second]
    return replace(item, margin=margin, votes={**item.votes, REWARD: int(np.sign(margin))})


def _with_judge(job: Job, items: Sequence[Item]) -> list[Item]:
    rubric = load_rubric(job.config.rubric)
    if rubric.kind != "comparison":
        raise ValueError(f"rubric {rubric.name!r} rates single responses; give one that compares")
    job.facts["rubric"] = {"name": rubric.name, "fingerprint": rubric.fingerprint}
    questions = [
        Question(
            item.example.prompt_id,
            rubric.messages(
                prompt_text(item.example.prompt, item.example.messages),
                [item.example.responses[k] for k in shown],
                item.example.context,
            ),
            rubric.read,
        )
        for item in items
        for shown in ((item.first, item.second), (item.second, item.first))
    ]
    said = verdicts(job, questions)
    judged = []
    for item, forward, swapped in zip(items, said[::2], said[1::2], strict=True):
        if not isinstance(forward, Failure) and not isinstance(swapped, Failure):
            verdict = BothOrders.read(forward, swapped).verdict
            item = replace(item, votes={**item.votes, JUDGE: verdict})
        judged.append(item)
    return judged


# --- figures ---


def agreement(items: Sequence[Item]) -> dict[str, Figure]:
    """κ, α and plain agreement, by prompts."""
    figures: dict[str, Figure] = {}
    for one, other in combinations(VOICES, 2):
        rows = _grouped(
            (item, [item.votes[one], item.votes[other], _longer(item)])
            for item in items
            if one in item.votes and other in item.votes
        )
        if not rows:
            continue
        together = np.concatenate(rows)
        trivial = {"chance": 0.0}
        if not np.isnan(longer := kappa(together[:, [0, 2]])) and one == HUMAN:
            trivial["longer"] = longer
        if not np.isnan(kappa(together)):
            figures[f"{one}_{other}_kappa"] = metrics.bootstrap(rows, kappa, baselines=trivial)
        shares = [
            np.bincount(together[:, column] + 1, minlength=3) / len(together) for column in (0, 1)
        ]
        figures[f"{one}_{other}_agreement"] = metrics.mean(
            [(own[:, 0] == own[:, 1]).astype(float) for own in rows],
            baselines={"chance": float(shares[0] @ shares[1])},
        )
    counts = _grouped(
        (item, np.bincount([v + 1 for v in item.votes.values()], minlength=3)) for item in items
    )
    people = _grouped((item, list(item.people)) for item in items)
    for name, rows in (("alpha", counts), ("human_alpha", people)):
        if not np.isnan(krippendorff_alpha(np.concatenate(rows))):
            figures[name] = metrics.bootstrap(rows, krippendorff_alpha, baselines={"chance": 0.0})
    return figures


def kappa(rows: np.ndarray) -> float:
    """Cohen's κ of the first two columns, votes −1, 0, 1. rows: (I, ≥ 2)."""
    return cohen_kappa(rows[:, 0] + 1, rows[:, 1] + 1, 3)


def _longer(item: Item) -> int:
    one, other = (len(item.example.responses[k]) for k in (item.first, item.second))
    return int(np.sign(one - other))


def _grouped(rows: Iterator[tuple[Item, Any]]) -> list[np.ndarray]:
    """One array a prompt."""
    groups: dict[str, list[Any]] = {}
    for item, row in rows:
        groups.setdefault(item.example.prompt_id, []).append(row)
    return [np.array(own) for own in groups.values()]


# --- disagreements ---


def disagreements(items: Sequence[Item]) -> list[tuple[Item, float]]:
    """Items on which the reward contradicts people or judge, with |margin| in standard deviations, by that."""
    margins = [item.margin for item in items if item.margin is not None]
    std = float(np.std(margins)) if margins else 0.0
    found = [
        (item, abs(item.margin) / std)
        for item in items
        if item.margin is not None
        and std > 0
        and any(item.votes[REWARD] * item.votes.get(voice, 0) < 0 for voice in (HUMAN, JUDGE))
    ]
    return sorted(found, key=lambda one: -one[1])


_NAMES = {1: "first", 0: "tie", -1: "second"}


def as_record(item: Item, size: float) -> dict[str, Any]:
    example = item.example
    return {
        "id": example.prompt_id,
        "prompt": prompt_text(example.prompt, example.messages),
        "first": example.responses[item.first],
        "second": example.responses[item.second],
        "votes": {voice: _NAMES[vote] for voice, vote in item.votes.items()},
        "people": dict(zip(("second", "tie", "first"), item.people, strict=True)),
        "margin": item.margin,
        "standard_deviations": size,
    }
