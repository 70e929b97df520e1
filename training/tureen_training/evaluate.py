"""Stage `evaluate`: what reward models, policies and judges are worth, by the suites of `evaluation.suites`.

A table for people goes to stderr; the last line of stdout is one JSON object, figure -> {value, low, high, n,
prompts, baseline, baselines}: the 95 % interval is a bootstrap over prompts, `baseline` the best predictor that
reads nothing. Of several suites each figure's name begins with its suite and a slash. What each figure is stands at
the head of its suite, `tureen_training.evaluation.<suite>`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tureen.errors import nearest
from tureen_training.data.records import Split
from tureen_training.evaluation.config import Config
from tureen_training.evaluation.files import local
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.subjects import Subjects
from tureen_training.evaluation.suites import SUITES, chosen, listing
from tureen_training.evaluation.table import print_table
from tureen_training.metrics import Figure
from tureen_training.report import versions

__all__ = ["Config", "as_json", "as_record", "main", "more_help"]


def main(config: Config) -> dict[str, Figure]:
    """Measure, print, return the figures."""
    split = split_named(config.split)
    config = dataclasses.replace(config, device=device_named(config.device))
    if config.threads:
        torch.set_num_threads(config.threads)
    data = local(config.data)
    found: dict[str, Figure] = {}
    with Subjects(config) as subjects:
        names = chosen(config.suite, subjects.given)
        several = len(names) > 1
        for name in names:
            out = Path(config.out) / (name if several else "") if config.out else None
            job = Job(suite=name, config=config, data=data, split=split, out=out, subjects=subjects)
            try:
                figures = SUITES[name].evaluate(job)
            except FileNotFoundError as error:
                if config.suite != "all":
                    raise
                print(f"note: {name} is left out: {error}", file=sys.stderr)  # noqa: T201
                continue
            judged = " · ".join(_named(**one) for one in job.facts["judged"])
            later = [note for note in job.notes if note not in job.said]
            print_table(f"{name}, {config.split} · {judged}", figures, later)
            if out is not None:
                _write(out, job, figures)
            found |= {f"{name}/{key}" if several else key: one for key, one in figures.items()}
    if not found:
        raise ValueError(f"{config.data} has the files of none of {', '.join(names)}")
    print(as_json(found))  # noqa: T201 - the answer of the command
    return found


def more_help() -> str:
    """What `tureen-train evaluate --help` says behind the fields."""
    return f"Suites:\n{listing()}"


def _named(what: str, name: str, fingerprint: str) -> str:
    """For a title. A reward that reads nothing has no fingerprint but its name, and its seed."""
    own = fingerprint.partition(":")[0] == name
    return fingerprint if own else f"{name} {fingerprint}"


def split_named(name: str) -> Split | None:
    """None is all parts; raises ValueError."""
    if name == "all":
        return None
    known = [part.value for part in Split]
    if name not in known:
        raise ValueError(f"split is {name!r}{nearest(name, ['all', *known])}")
    return Split(name)


def device_named(name: str) -> str:
    """auto is resolved; raises ValueError for a device that is not there."""
    there = ["cpu", "cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if not torch.cuda.is_available():
        there = ["cpu"]
    if name == "auto":
        return "cuda" if "cuda" in there else "cpu"
    if name not in there:
        raise ValueError(f"device is {name!r}; here are: auto, {', '.join(there)}")
    return name


def as_json(figures: Mapping[str, Figure]) -> str:
    """One line."""
    return json.dumps(as_record(figures), allow_nan=False, ensure_ascii=False)


def as_record(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    """Figures as JSON, to six places."""

    def rounded(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: rounded(item) for key, item in value.items()}
        return round(value, 6) if isinstance(value, float) else value

    return {name: rounded(dataclasses.asdict(figure)) for name, figure in figures.items()}


def _write(out: Path, job: Job, figures: Mapping[str, Figure]) -> None:
    report = {
        "suite": job.suite,
        "about": SUITES[job.suite].about,
        "definitions": sys.modules[SUITES[job.suite].evaluate.__module__].__doc__,
        "versions": versions(),
        "split": job.config.split,
        "limit": job.config.limit,
        "seed": job.config.seed,
        **job.facts,
        "notes": job.notes,
        "figures": as_record(figures),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
