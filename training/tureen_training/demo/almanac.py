"""Writes the Almanac to disk: see `tureen_training.worlds.almanac.dataset` for the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tureen_training.runlog import RunLog
from tureen_training.worlds.almanac.dataset import Sizes, write
from tureen_training.worlds.almanac.errors import Habits


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Write the Almanac.

    out: directory of the world; the same seed, sizes and habits give the same bytes.
    sizes: how many records of each kind, see `worlds.almanac.dataset.Sizes`.
    habits: errors of the demonstrations, see `worlds.almanac.errors.Habits`.
    """

    out: str
    sizes: Sizes = field(default_factory=Sizes)
    habits: Habits = field(default_factory=Habits)
    seed: int = 0


def main(config: Config) -> None:
    out = Path(config.out)
    counts = write(out, config.sizes, config.habits, config.seed)
    RunLog(out / "metrics.jsonl").write("written", records=counts)
