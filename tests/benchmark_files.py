"""Small files in the layouts in which reward-model benchmarks are published, so that no test needs the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tureen_training.data.records import Example
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.readings import Reading

Record = dict[str, Any]


def rewardbench(subset: str, number: int) -> Record:
    return {
        "prompt": f"Question {number} of {subset}?",
        "chosen": "A good answer.",
        "chosen_model": "m",
        "rejected": "Bad.",
        "rejected_model": "m",
        "subset": subset,
        "id": number,
    }


def prior_set(number: int) -> Record:
    return {
        "prompt": [
            {"role": "user", "content": f"Hello {number}"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "What is a gull?"},
        ],
        "chosen": "A bird.",
        "rejected": "No idea at all.",
        "subset": "prior",
        "id": number,
    }


def rewardbench2(
    subset: str, name: str, right: Sequence[str] = ("yes",), wrong: Sequence[str] = ("a", "b", "c")
) -> Record:
    return {
        "id": name,
        "prompt": f"Question {name} of {subset}?",
        "chosen": list(right),
        "rejected": list(wrong),
        "num_correct": len(right),
        "num_incorrect": len(wrong),
        "total_completions": len(right) + len(wrong),
        "models": ["m"],
        "subset": subset,
    }


def rm_bench(domain: str, number: int) -> Record:
    return {
        "id": number,
        "prompt": f"Question {number}?",
        "chosen": ["Yes.", "Yes, it is so.", "**Yes**, it is so.\n- so"],
        "rejected": ["No.", "No, it is not.", "**No**, it is not.\n- so"],
        "domain": domain,
    }


def parquet(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """A shard as the hub has it."""
    import pyarrow
    from pyarrow import parquet as file

    path.parent.mkdir(parents=True, exist_ok=True)
    file.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return path


def rewarded(example: Example, *rewards: float) -> Read:
    """The example as a model reads it that gives its responses these rewards."""
    assert len(rewards) == len(example.responses)
    return example, tuple(Reading(reward=reward, heads={}) for reward in rewards)
