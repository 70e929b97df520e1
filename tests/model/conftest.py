from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pico
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No hub, and an empty cache of our own, which is returned."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(scope="session")
def reward_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico.bert_reward(tmp_path_factory.mktemp("models") / "reward")


@pytest.fixture(scope="session")
def member_directories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return pico.bert_members(tmp_path_factory.mktemp("members"), 3)


@pytest.fixture(scope="session")
def values_of() -> Callable[..., Tensor]:
    """Values of rows of token ids, padded on the right, with two units each.

    The first unit is the first token, the second all of them.
    """

    def run(model: nn.Module, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        span_weights = torch.zeros(len(rows), 2, longest)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = torch.tensor(row)
            attention_mask[i, : len(row)] = 1
            span_weights[i, 0, 0] = 1
            span_weights[i, 1, : len(row)] = 1 / len(row)
        with torch.inference_mode():
            return model(input_ids, attention_mask, torch.zeros_like(input_ids), span_weights)

    return run
