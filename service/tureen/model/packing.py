"""Rows of different lengths as one row without padding, for trunks of transformers.

The tokens of a batch stand one row behind the other. Positions start anew with each row, and attention
stays inside it: torch's variable-length flash attention on CUDA, one row after the other elsewhere.
Everything else in a trunk looks at one token at a time. So it sees Σ lengths tokens, not rows times
the longest.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tureen.model.shared_prefixes import Prefixes, allowance, looking_back

log = logging.getLogger(__name__)

_NAME: Final = "tureen_packed"
_BEYOND: Final = ("softcap", "position_bias", "s_aux")
"""What transformers may ask of attention and these kernels do not do."""


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where the S tokens of padded rows (B, T) stand in the one row.

    index: (S,) int64, of each token in the rows laid end to end, B * T.
    positions: (S,) int64, of each token in its own row, as the trunk counts them.
    starts: (B + 1,) int32, of each row among the S; the last is S.
    lengths: (B,) tokens of each row.
    """

    index: Tensor
    positions: Tensor
    starts: Tensor
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(self.lengths)


@dataclass(frozen=True, slots=True)
class Packer:
    """What is to be known of a trunk that can run packed. first_position: of a row's first token."""

    first_position: int

    def arrays(self, attention_mask: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of a `Packing`, by their names.

        Args:
            attention_mask: (B, T), 1 where the token counts; padding stands on the right.
        """
        index = np.flatnonzero(attention_mask)
        starts = np.zeros(len(attention_mask) + 1, np.int32)
        np.cumsum(attention_mask.sum(axis=1), out=starts[1:])
        return {
            "index": index,
            "positions": index % attention_mask.shape[1] + self.first_position,
            "starts": starts,
        }

    def packing(self, attention_mask: np.ndarray, tensors: Mapping[str, Tensor]) -> Packing:
        """Of `arrays` that are on the device by now."""
        lengths = tuple(attention_mask.sum(axis=1).tolist())
        return Packing(tensors["index"], tensors["positions"], tensors["starts"], lengths)


def hidden_states(
    trunk: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    token_type_ids: Tensor | None = None,
    prefixes: Prefixes | None = None,
    packing: Packing | None = None,
) -> Tensor:
    """Those of a trunk's last layer, whichever way it runs.

    Args:
        input_ids, attention_mask, token_type_ids: (B, T); None for a trunk that takes no types.
        prefixes: what the rows look back at. packing: of these very rows; not with `prefixes`.
    Returns:
        (B, T, D); of padding 0 where the rows were packed, anything else where they were not.
    """
    extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    if packing is None:
        looks = looking_back(attention_mask, prefixes)
        return trunk(input_ids=input_ids, **looks, **extra).last_hidden_state
    rows, tokens = input_ids.shape
    taken = {
        name: values.flatten()[packing.index][None] for name, values in extra.items()
    }  # (1, S)
    ids = input_ids.flatten()[packing.index][None]
    found = _run(trunk, _Call(packing), ids, taken)[0]  # (S, D)
    hidden = found.new_zeros(rows * tokens, found.shape[1])
    hidden[packing.index] = found
    return hidden.view(rows, tokens, -1)


@torch.inference_mode()
def packer_of(trunk: PreTrainedModel) -> Packer | None:
    """How the trunk runs packed; None where it does not give the same hidden states then.

    Tried out on a few tokens: a trunk may have attention of its own, mix tokens elsewhere, count
    positions its own way, or be of a type or on a device that the kernel does not run.
    """
    name = type(trunk).__name__
    if not (trunk._supports_sdpa and trunk._supports_attention_backend):
        log.info("rows are padded: %s has attention that nothing can stand in for", name)
        return None
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, _mask)
    before = trunk.config._attn_implementation or "sdpa"
    packer = Packer(_first_position(trunk))
    try:
        refusal = _refusal(trunk, packer)
    except Exception as error:  # whatever an architecture or a device cannot do, it is run padded
        refusal = f"cannot ({error!r})"
    if refusal is not None:
        trunk.set_attn_implementation(before)
        # Float32 has no such kernel on CUDA; elsewhere somebody may be missing throughput.
        level = logging.INFO if trunk.dtype == torch.float32 else logging.WARNING
        log.log(level, "rows are padded: %s %s", name, refusal)
        return None
    return packer


def _refusal(trunk: PreTrainedModel, packer: Packer) -> str | None:
    """Runs a few rows padded and packed. Leaves the trunk with attention that knows of packing."""
    ids, mask = _probe(trunk.config)
    arrays = packer.arrays(mask)
    tensors = {name: torch.from_numpy(array).to(trunk.device) for name, array in arrays.items()}
    packing = packer.packing(mask, tensors)
    rows = {
        "input_ids": torch.from_numpy(ids).to(trunk.device),
        "attention_mask": torch.from_numpy(mask).to(trunk.device),
    }
    packed_ids = rows["input_ids"].flatten()[packing.index][None]

    def padded() -> Tensor:
        return trunk(**rows).last_hidden_state.flatten(0, 1)[packing.index].float()

    wanted = padded()
    mixed = trunk(input_ids=packed_ids).last_hidden_state[0].float()
    trunk.set_attn_implementation(_NAME)
    call = _Call(packing)
    found = _run(trunk, call, packed_ids, {})[0].float()
    allowed = allowance(trunk.dtype, wanted)
    if (mixed - wanted).abs().max() < 3 * allowed:
        return "hardly looks at neighbours"  # so the comparison would say nothing
    if call.local_masks and not call.windows:
        return "has local attention that it does not tell the kernel of"
    if max((other - wanted).abs().max() for other in (found, padded())) > allowed:
        return "gives other values then"
    return None


def _first_position(trunk: PreTrainedModel) -> int:
    """0, but behind that of the padding token where positions are RoBERTa's."""
    embeddings = getattr(trunk, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else padding + 1


def _probe(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of three rows of different lengths, without the padding token."""
    text = config.get_text_config()
    known = np.setdiff1d(np.arange(text.vocab_size), [getattr(text, "pad_token_id", None) or 0])
    mask = (np.arange(9) < np.array([[9], [4], [7]])).astype(np.int64)
    return np.random.default_rng(0).choice(known, mask.shape) * mask, mask


# what attention sees of it


@dataclass(slots=True, eq=False)
class _Call:
    """A packed pass. local_masks: masks of local attention were asked for; windows: it told its size."""

    packing: Packing
    local_masks: bool = False
    windows: bool = False


_call: ContextVar[_Call | None] = ContextVar("packed_call", default=None)


def _run(trunk: PreTrainedModel, call: _Call, ids: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
    """(1, S) -> (1, S, D)."""
    before = _call.set(call)
    try:
        return trunk(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=call.packing.positions[None],
            **extra,
        ).last_hidden_state
    finally:
        _call.reset(before)


def _mask(*args: Any, **options: Any) -> Tensor | None:
    call = _call.get()
    if call is None:
        return sdpa_mask(*args, **options)
    call.local_masks |= options.get("local_size") is not None
    return None  # the kernel knows where rows end


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query: (B, A, T, D), key and value: (B, A or fewer, T, D), B = 1 and T = S when packed.

    sliding_window: a token looks at those less than that far away.
    """
    call = _call.get()
    if call is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            is_causal=is_causal,
            **options,
        )
    beyond = [name for name in _BEYOND if options.get(name) is not None]
    if beyond:
        raise NotImplementedError(f"packed attention with {', '.join(beyond)}")
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    call.windows |= sliding_window is not None
    of_rows = _flash if query.is_cuda else _one_by_one
    return of_rows(module, (query, key, value), call.packing, scaling, causal, sliding_window), None


def _flash(
    _module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    packing: Packing,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """In half precision, heads at most 256 wide, on Ampere or later; (1, S, A, D)."""
    from torch.nn.attention.varlen import varlen_attn  # not in every torch that we run with

    behind = -1 if window is None else window - 1
    query, key, value = (state[0].transpose(0, 1) for state in states)  # (S, A, D)
    found = varlen_attn(
        query,
        key,
        value,
        packing.starts,
        packing.starts,
        packing.longest,
        packing.longest,
        scale=scaling,
        window_size=(behind, 0 if causal else behind),
        enable_gqa=query.shape[1] != key.shape[1],
        num_splits=1,  # else a row's sums depend on its longest neighbour
    )
    assert isinstance(found, Tensor)
    return found[None]


def _one_by_one(
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    packing: Packing,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """(1, S, A, D)."""
    ends = itertools.accumulate(packing.lengths, initial=0)
    return torch.cat(
        [
            sdpa_attention_forward(
                module,
                *(state[:, :, start:end] for state in states),
                attention_mask=_near(end - start, window, causal, states[0].device),
                scaling=scaling,
                is_causal=causal,
            )[0]
            for start, end in itertools.pairwise(ends)
        ],
        dim=1,
    )


def _near(tokens: int, window: int | None, causal: bool, device: torch.device) -> Tensor | None:
    """(1, 1, T, T), True where a token looks; None where it looks at all, or all before it."""
    if window is None or window >= tokens:
        return None
    places = torch.arange(tokens, device=device)
    distance = places[:, None] - places
    near = (distance if causal else distance.abs()) < window
    return (near & (distance >= 0) if causal else near)[None, None]
