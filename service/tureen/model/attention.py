"""What one position of a row looked at, of a transformers model that runs fused attention.

Fused attention gives no probabilities. The queries, keys and mask it was called with last, those of
the last attention layer, are kept, and the probabilities of the one row of them that is asked for
are computed; the model's own arithmetic stays as it is, to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tureen.model.manifest import ModelError

_NAME: Final = "tureen_watched_sdpa"


@dataclass(slots=True)
class Watched:
    """A call of attention. mask: (B, 1 or A, T, T), True or 0 where a key is looked at, or None."""

    query: Tensor | None = None  # (B, A, T, D)
    key: Tensor | None = None  # (B, A or fewer, T, D)
    mask: Tensor | None = None
    scaling: float | None = None

    def attention_of(self, positions: Tensor, attention_mask: Tensor) -> Tensor:
        """softmax(q·kᵀ·scaling) of one query a row, the mean over the A attention heads.

        Args:
            positions: (B,) of the query. attention_mask: (B, T), 1 where the token counts; no
                token behind the position counts where the model is causal.
        Returns:
            (B, T) float32, rows add up to 1.
        """
        assert self.query is not None
        assert self.key is not None
        rows, heads, tokens, width = self.query.shape
        place = positions[:, None, None, None]
        query = self.query.gather(2, place.expand(-1, heads, 1, width)).float()  # (B, A, 1, D)
        key = self.key.float().repeat_interleave(heads // self.key.shape[1], dim=1)
        scaling = self.scaling if self.scaling is not None else width**-0.5
        logits = (query @ key.transpose(2, 3)) * scaling  # (B, A, 1, T)
        if self.mask is not None:
            mask = self.mask.expand(rows, -1, -1, -1)
            mask = mask.gather(2, place.expand(-1, mask.shape[1], 1, tokens))  # (B, ·, 1, T)
            bias = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask.float()
            logits = logits + bias
        logits = logits.masked_fill(attention_mask[:, None, None, :] == 0, -torch.inf)
        return logits.softmax(dim=3).mean(dim=1).squeeze(1)  # (B, T)


_watched: ContextVar[Watched | None] = ContextVar("watched", default=None)


def make_watchable(model: PreTrainedModel) -> None:
    """Lets `watching` see the attention of a model that was loaded with fused attention.

    Raises:
        ModelError: its attention is its own, not one that transformers lets others stand in for.
    """
    kind = type(model)
    if not (kind._supports_sdpa and kind._supports_attention_backend):
        raise ModelError(
            f"the attention of a {kind.__name__} cannot be looked at; redistribute by ablation."
        )
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _watched_sdpa)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)


@contextlib.contextmanager
def watching() -> Iterator[Watched]:
    """The last call of attention inside."""
    watched = Watched()
    before = _watched.set(watched)
    try:
        yield watched
    finally:
        _watched.reset(before)


def _watched_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    watched = _watched.get()
    if watched is not None:
        watched.query, watched.key = query, key
        watched.mask, watched.scaling = attention_mask, scaling
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
