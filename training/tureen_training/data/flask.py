"""Readers of FLASK (Ye et al. 2023, arXiv:2307.10928): its instructions, and the responses of eight systems to them.

The release has no ratings of them, so there is nothing to learn; a judge or a reward model rates them in evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tureen_training.data.jsonl import Seen, records
from tureen_training.data.records import Example, group_of


def read_flask(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    """Yields the instructions one by one, blank responses left out and counted; raises `BadData`."""
    seen = Seen("idx")
    for fields in records(path):
        name = f"flask-{fields.get('idx', int):04d}"
        seen.add(name, fields)
        prompt, systems = fields.text("instruction"), fields.object("responses")
        texts = [systems.get(system, str) for system in systems.record]
        responses = tuple(text for text in texts if text.strip())
        skipped["blank response"] += len(texts) - len(responses)
        if not responses:
            skipped["prompt without a response"] += 1
            continue
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            responses=responses,
            group=group_of(prompt),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instruction of the evaluation set. answer: the reference, "" where there is none. skills: as the data name
    them, "Logical Robustness". domains: without the mark -1 for a missing one. difficulty: None where it is missing."""

    idx: int
    instruction: str
    answer: str
    skills: tuple[str, ...]
    domains: tuple[str, ...]
    difficulty: str | None


def read_instances(path: Path) -> Iterator[Instance]:
    """Yields the instructions of `evaluation` (or `hard`) one by one, also of the release; raises `BadData`."""
    seen = Seen("idx")
    for fields in records(path):
        release = RELEASE if "question_id" in fields.record else {}

        def name(own: str, release: Mapping[str, str] = release) -> str:
            return release.get(own, own)

        idx = fields.get(name("idx"), int)
        seen.add(str(idx), fields)
        yield Instance(
            idx=idx,
            instruction=fields.text(name("instruction")),
            answer=fields.optional("answer", str) or "",
            skills=fields.texts(name("skill")),
            domains=tuple(d for d in map(str, fields.get(name("domain"), list)) if d != MISSING),
            difficulty=fields.optional(name("difficulty"), str),
        )


def read_systems(path: Path, skipped: Counter[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(idx, system -> its response) one by one, blank responses left out and counted; raises `BadData`."""
    for fields in records(path):
        systems = fields.object("responses")
        texts = {name: systems.get(name, str) for name in systems.record}
        skipped["blank response"] += sum(not text.strip() for text in texts.values())
        yield (
            fields.get("idx", int),
            {name: text for name, text in texts.items() if text.strip()},
        )


MISSING = "-1"
"""Marks a domain that nobody named."""
RELEASE = {
    "idx": "question_id",
    "instruction": "text",
    "skill": "metrics",
    "domain": "domain_labeled",
    "difficulty": "difficulty_labeled",
}
"""Field of our copies -> what `evaluation_set/flask_evaluation.jsonl` of the repository calls it."""
