"""Runs of the stage `rrhf` that take a second or two, on what `pico_ppo` has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pico_ppo

from tureen_training.rrhf import Config, train

OFFLINE: dict[str, Any] = {"sources": ("good", "mixed", "bad"), "samples_per_source": 2}
ONLINE: dict[str, Any] = {"resample_steps": 2, "samples_per_prompt": 3}
UNSTEADY = ("elapsed_s", "time/step_s", "time/candidates_s")


def config(root: Path, name: str, **changes: Any) -> Config:
    defaults: dict[str, Any] = {
        "policy": str(root / "policy"),
        "out": str(root / name),
        "prompts": (str(root / "prompts.jsonl"),),
        "max_new_tokens": 6,
        "epochs": 8,
        "prompts_per_step": 4,
        "prompts_per_request": 2,
        "rows_per_forward": 8,
        "learning_rate": 3e-3,
        "state_steps": 2,
        "threads": 1,
    }
    changes["sources"] = tuple(str(root / one) for one in changes.get("sources", ()))
    return Config(**defaults | changes)


def run(root: Path, name: str, oracle: Any, **changes: Any) -> list[dict[str, Any]]:
    train(config(root, name, **changes), oracle)
    return events(root, name)


def events(root: Path, name: str) -> list[dict[str, Any]]:
    records = pico_ppo.read(root / f"{name}.run" / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in UNSTEADY} for record in records]


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]
