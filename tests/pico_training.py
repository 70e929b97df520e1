"""Runs of the stage `reward` that take a second or two, and members that none has to train: tiny data, a tiny base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import feedback_files
import pico
import pytest

from tureen_training.reward import QA_TEXT, Config


def directory(root: Path) -> Path:
    """Data and a base under `root`, for `config`."""
    feedback_files.directory(root / "data")
    with pytest.MonkeyPatch.context() as patch:  # room for a row of characters
        patch.setattr(pico, "MAX_INPUT_TOKENS", QA_TEXT.max_input_tokens)
        pico.bert_base(root / "base")
    return root


def members(root: Path, questions: int = 40) -> list[Path]:
    """data/, and base/, member-0/, member-1/: an ancestor and its descendants, whose texts are long enough."""
    feedback_files.directory(root / "data", questions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pico, "MAX_INPUT_TOKENS", QA_TEXT.max_input_tokens)
        patch.setattr(pico, "PAIR", QA_TEXT)
        return pico.bert_members(root, 2)


def config(root: Path, name: str, **changes: Any) -> Config:
    """Of a short run under `root`, one of two layers trained, 11 steps an epoch."""
    defaults: dict[str, Any] = {
        "data": str(root / "data"),
        "out": str(root / name),
        "name": name,
        "base": pico.base_of(root / "base"),
        "trained_layers": 1,
        "epochs": 1,
        "learning_rate": 1e-2,
        "probe_steps": 3,
        "cache": str(root / "cache"),
        "threads": 1,
    }
    return Config(**defaults | changes)


def events(root: Path, name: str) -> list[dict[str, Any]]:
    """What the run logged, without the times."""
    lines = (root / f"{name}.run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        assert record.pop("elapsed_s") >= 0
    return records
