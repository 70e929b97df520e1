"""Attention as one operator of ONNX Runtime, while a transformers model is exported.

torch's exporter writes fused attention as fourteen small operators; ONNX Runtime's own fusions look
for the shape that an older exporter gave them, and do not find it. So the operator,
com.microsoft.MultiHeadAttention, is written where transformers lets an attention stand in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tureen.model.manifest import ModelError

_NAME: Final = "tureen_onnx"
_BEYOND: Final = ("softcap", "s_aux", "position_bias")
"""What some architectures add to attention, and the operator has not."""


@contextlib.contextmanager
def fused_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, an export of `model` has fused attention; nothing else can be done with it there.

    Raises:
        ModelError: here or in its forward pass, an attention that has no such operator.
    """
    kind = type(model)
    before = model.config._attn_implementation
    if before != "sdpa" or not kind._supports_attention_backend:
        raise ModelError(f"the attention of a {kind.__name__} is its own; it cannot be fused.")
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, _bias)
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _bias(*, dtype: torch.dtype = torch.float32, **arguments: Any) -> Tensor:
    """(B, 1, T, T): 0 where a key is looked at, else as low as it gets; made once for all layers."""
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    mask = sdpa_mask(**{**arguments, **skips})
    assert mask is not None  # it is not skipped
    return torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query: (B, A, T, D). key, value: (B, A or fewer, T, D). Returns (B, T, A, D)."""
    beyond = [name for name in _BEYOND if options.get(name) is not None]
    if beyond or attention_mask is None:
        raise ModelError(f"attention with {', '.join(beyond) or 'no mask'} cannot be fused.")
    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    flat = [
        one.transpose(1, 2).reshape(rows, tokens, -1)
        for one in (query, repeat_kv(key, groups), repeat_kv(value, groups))
    ]  # (B, T, A * D) each
    out = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (*flat, None, None, attention_mask),
        {"num_heads": heads, "scale": float(width**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=flat[2].shape,
        version=1,
    )
    return out.reshape(rows, tokens, heads, -1), None
