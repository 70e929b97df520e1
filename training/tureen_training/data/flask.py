"""Reader of FLASK's responses (Ye et al. 2023, arXiv:2307.10928): eight systems on the same instructions.

The release has no ratings of them, so there is nothing to learn; a judge or a reward model rates them in evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
