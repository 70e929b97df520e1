"""One row at a time through transformers alone: what served values are held against.

No batch, no padding, no mask, no fused attention, no matrix of span weights, float32 on the CPU.
Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from tureen.commands.plain_evidence import plain_features
from tureen.model.checkpoint import load
from tureen.model.directory import ModelDirectory
from tureen.model.reward_model import SHARE_SCALE, RewardModel, takes_token_types
from tureen.text.encoding import Window


def plain_forward(opened: ModelDirectory) -> Callable[[Window], np.ndarray]:
    """A function from a window to (N, G, H) values; of a third party's classifier N is 1."""
    if opened.manifest.kind == "sequence_classifier":
        return _classifier(opened)
    return _reward_model(opened)


def _classifier(opened: ModelDirectory) -> Callable[[Window], np.ndarray]:
    """transformers' own forward and head."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            opened.directory,
            attn_implementation="eager",
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
        )
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
    model.eval()
    model.config.pad_token_id = None  # the row has no padding: its last token is read

    @torch.inference_mode()
    def values(window: Window) -> np.ndarray:
        return model(**_inputs(model, window)).logits.numpy()[:, None, :]

    return values


def _reward_model(opened: ModelDirectory) -> Callable[[Window], np.ndarray]:
    """The trunk, then mean of each unit's tokens, evidence where heads read it, and v = W h + b, by hand."""
    model = cast(RewardModel, load(opened, device=torch.device("cpu"), dtype=torch.float32).model)
    backbone: Any = model.backbone
    backbone.set_attn_implementation("eager")
    weight = model.heads.weight.detach().numpy()  # (G, H, D)
    bias = model.heads.bias.detach().numpy()  # (G, H)
    compares = opened.manifest.text.compares

    @torch.inference_mode()
    def values(window: Window) -> np.ndarray:
        types = window.token_type_ids.tolist()
        inputs = _inputs(backbone, window)
        if compares and "token_type_ids" in inputs:
            inputs["token_type_ids"].zero_()  # they are the heads'
        hidden = backbone(**inputs).last_hidden_state[0].numpy()  # (T, D)
        units = [hidden[start:end].mean(axis=0) for start, end in window.spans.tolist()]
        if compares:
            units = [
                np.concatenate([unit, plain_features(types[start:end], SHARE_SCALE)])
                for unit, (start, end) in zip(units, window.spans.tolist(), strict=True)
            ]
        if window.unit_features is not None:
            units = [
                np.concatenate([unit, counted])
                for unit, counted in zip(units, window.unit_features, strict=True)
            ]
        return np.stack([weight @ unit + bias for unit in units])

    return values


def _inputs(model: Any, window: Window) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": torch.from_numpy(window.input_ids.astype(np.int64))[None]}
    if takes_token_types(model, model.config):
        inputs["token_type_ids"] = torch.from_numpy(window.token_type_ids.astype(np.int64))[None]
    return inputs
