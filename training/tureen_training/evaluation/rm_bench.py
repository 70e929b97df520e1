"""Suite `rm_bench`: RM-Bench (Liu et al. 2024, arXiv:2410.16184): substance against style.

Three chosen and three rejected responses a prompt, in the styles concise, detailed, detailed with Markdown. Each
chosen one against each rejected one is a cell of a 3 × 3 matrix (row: style of the chosen one); it is won where
chosen has the higher reward, and lost where they tie, as published.

    normal   mean of the diagonal, the same style
    hard     mean of the upper triangle: the rejected one has the fancier style
    easy     mean of the lower triangle: the chosen one has it
    domain   mean of the nine cells, of chat, code, math and safety (its two files together)
    score    mean of the four domains; normal, hard and easy too are means over domains

Layout: `THU-KEG/RM-Bench` (total_dataset.json: id, prompt, chosen, rejected, domain).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from tureen_training.data.jsonl import Fields
from tureen_training.data.records import Comparison, Example, Pair, Split, group_of
from tureen_training.evaluation import composite
from tureen_training.evaluation.comparisons import Read, margins, reward
from tureen_training.evaluation.files import find, rows, stems
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

COMPARISON = Comparison.PREFERENCE
FOLDER = "rm_bench"
DOMAINS = ("chat", "code", "math", "safety")
STYLES: Final = ("concise", "detailed", "markdown")
_PAIRS = tuple(Pair(i, len(STYLES) + j) for i, j in product(range(3), range(3)))  # row-major
CELLS: Final[Mapping[str, tuple[int, ...]]] = {
    "normal": (0, 4, 8),
    "hard": (1, 2, 5),
    "easy": (3, 6, 7),
}
"""Difficulty -> its cells of the matrix, row by row."""


def evaluate(job: Job) -> dict[str, Figure]:
    return scored(job, parts(job.data, job.split), report)


def parts(data: Path, split: Split | None) -> dict[str, list[Example]]:
    """Domain -> its prompts.

    Raises:
        BadData: a domain that is unknown, or not three responses of either kind.
    """
    found: dict[str, list[Example]] = {}
    for fields in rows(find(data, FOLDER, "total_dataset", *stems("train"))):
        domain = next((d for d in DOMAINS if fields.text("domain").startswith(d)), None)
        if domain is None:
            raise fields.bad(f"'domain' is {fields.text('domain')!r}; known: {', '.join(DOMAINS)}")
        example = _example(fields, domain)
        if split is None or example.split == split:
            found.setdefault(domain, []).append(example)
    return {domain: found[domain] for domain in DOMAINS if domain in found}


def _example(fields: Fields, domain: str) -> Example:
    chosen, rejected = fields.items("chosen", str), fields.items("rejected", str)
    if (len(chosen), len(rejected)) != (3, 3):
        raise fields.bad(
            f"{len(chosen)} chosen and {len(rejected)} rejected responses; each is there in the three styles "
            f"{', '.join(STYLES)}"
        )
    prompt = fields.text("prompt")
    return Example(
        prompt_id=f"{domain}-{fields.index:05d}",
        origin=domain,
        prompt=prompt,
        responses=(*chosen, *rejected),
        pairs={COMPARISON: _PAIRS},
        group=group_of(prompt),
    )


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    present = {domain: own for domain, own in read.items() if own}
    if not present:
        return {}
    cells = {
        domain: [_won(margins(one, COMPARISON, reward)) for one in own]
        for domain, own in present.items()
    }
    of_domain = {
        f"{domain}{own}": (domain,) for domain in present for own in ("", *map("_{}".format, CELLS))
    }
    return composite.figures(cells, values, _trivial(present), of_domain)


def values(read: composite.Rows) -> dict[str, float]:
    """All figures. read: domain -> the nine cells of each prompt, (I, 9).

    Beside the domains and the score, the cells over all prompts: `concise_over_markdown` is a concise chosen against
    a Markdown rejected response.
    """
    found: dict[str, float] = {}
    for level, own in {"": range(9), **CELLS}.items():
        structure = composite.Structure(
            domains={domain: {domain: 1.0} for domain in DOMAINS},
            scores={level or "score": dict.fromkeys(DOMAINS, 1.0)},
            worst_of=DOMAINS,
        )
        of_level = {
            domain: rows[:, list(own)].mean(axis=1, keepdims=True) for domain, rows in read.items()
        }
        for name, value in composite.values(structure, of_level).items():
            found[f"{name}_{level}" if level and name != level else name] = value
    cells = np.concatenate(list(read.values())).mean(axis=0)  # (9,)
    for cell, (chosen, rejected) in enumerate(product(STYLES, STYLES)):
        found[f"{chosen}_over_{rejected}"] = float(cells[cell])
    return found


def _won(margins: np.ndarray) -> np.ndarray:
    """(1, 9), 1 where the chosen one has the higher reward."""
    return (margins[None, :] > 0).astype(float)


def _trivial(read: Mapping[str, Sequence[Read]]) -> Iterator[tuple[str, composite.Rows]]:
    """Baseline -> domain -> the nine cells of each prompt."""
    for name, found in composite.length_margins(read, COMPARISON):
        yield (
            name,
            {domain: np.concatenate([_won(one) for one in own]) for domain, own in found.items()},
        )
    yield "chance", {domain: np.full((1, 9), 0.5) for domain in read}
