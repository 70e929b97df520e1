"""`RewardModel`: a pretrained trunk, pooling by matrix product, linear heads.

What is trained is what is served.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tureen.model.base import resolve_base
from tureen.model.heads import RewardHeads
from tureen.model.manifest import Manifest, ModelError
from tureen.model.packing import Packing, hidden_states
from tureen.model.shared_prefixes import Prefixes
from tureen.text.evidence import FEATURES, feature_table
from tureen.text.template import TextSpec
from tureen.text.unit_features import UNIT_FEATURES

EVIDENCE_WIDTH: Final = FEATURES + 1

SHARE_SCALE: Final = 4.0
"""What a head reads for a share of 1. Shares are spread over a quarter of a unit, logarithms of
lengths over a whole one; so all learn at one rate."""


class RewardModel(nn.Module):
    """backbone: an encoder, or a decoder fed with padding on the right.

    heads: `RewardHeads` as wide as the trunk; or wider by `EVIDENCE_WIDTH`, then they read the
    evidence about a unit's tokens itself beside the hidden states (a wide and a deep part: Cheng et
    al. 2016, arXiv:1606.07792); or by `UNIT_FEATURES` more, which the text layer counted.
    """

    def __init__(self, backbone: PreTrainedModel, heads: RewardHeads) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.evidence: Tensor
        self.register_buffer("evidence", torch.from_numpy(feature_table()), persistent=False)
        self.config = backbone.config
        backbone.config.use_cache = False  # one pass over the row: a decoder's cache is only memory
        self._takes_token_types = takes_token_types(backbone, backbone.config)

    @property
    def trunk(self) -> PreTrainedModel:
        return self.backbone

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        span_weights: Tensor,
        unit_features: Tensor | None = None,
        prefixes: Prefixes | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Values of every unit.

        A unit's hidden state is the mean over its tokens; which tokens those are, and so whether
        this is mean, first- or last-token pooling, was decided by the text layer, which wrote
        `span_weights`.

        Args:
            input_ids: (B, T) int64. attention_mask: (B, T) int64, 1 where the token counts.
            token_type_ids: (B, T) int64; unused by a backbone that has none. Where the heads read
                evidence those of `tureen.text.evidence`, and the backbone gets zeros.
            span_weights: (B, N, T) float32; rows add up to 1, or are 0 for a unit that is padding.
            unit_features: (B, N, UNIT_FEATURES), where the heads are wide enough for them.
            prefixes: what stood before the tokens of these rows; see `SharedPrefixes`.
            packing: of these rows, for a backbone that runs without padding; see `packer_of`.
        Returns:
            (B, N, G, H) float32 raw values; group 0 is the soup.
        """
        reads_evidence = self.heads.width > self.config.hidden_size
        types = None
        if self._takes_token_types:
            types = torch.zeros_like(token_type_ids) if reads_evidence else token_type_ids
        hidden = hidden_states(
            self.backbone,
            input_ids,
            attention_mask,
            token_type_ids=types,
            prefixes=prefixes,
            packing=packing,
        )  # (B, T, D)
        # Autocast, which training may be under, would make heads and pooling bf16.
        with torch.autocast(hidden.device.type, enabled=False):
            weights = span_weights.float()
            units = torch.bmm(weights, hidden.float())  # (B, N, D)
            if reads_evidence:
                units = torch.cat([units, self._evidence(token_type_ids, weights)], dim=-1)
            if unit_features is not None:
                units = torch.cat([units, unit_features.float()], dim=-1)
            return self.heads(units)

    def _evidence(self, token_type_ids: Tensor, weights: Tensor) -> Tensor:
        """Shares of the unit's tokens (see `feature_table`), and the logarithm of their number.

        Args:
            token_type_ids: (B, T). weights: (B, N, T).
        Returns:
            (B, N, EVIDENCE_WIDTH); 0 for a unit that is padding.
        """
        shares = torch.bmm(weights, self.evidence[token_type_ids])  # (B, N, FEATURES)
        largest = weights.amax(dim=-1, keepdim=True)  # (B, N, 1), 1 / tokens of the unit
        size = torch.where(largest > 0, -torch.log(largest.clamp(min=1e-9)), largest)
        return torch.cat([SHARE_SCALE * shares, size], dim=-1)


def takes_token_types(model: nn.Module, config: PretrainedConfig) -> bool:
    """Whether zeros as token types mean the first text: GPT-2 embeds them as words."""
    accepts = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepts and getattr(config, "type_vocab_size", 0) > 0


def load_backbone(
    directory: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """The trunk of a Hugging Face directory, without a head or a pooler, in evaluation mode.

    Args:
        directory: holds config.json, and model.safetensors unless `state` is given.
        state: tensors to use, named as in `backbone.state_dict()`; taken over, not copied, where
            the type agrees.
    Raises:
        ModelError: an architecture without a trunk in transformers, missing or misshapen
            tensors, a damaged file.
    """
    config = load_config(directory)
    kind = MODEL_MAPPING.get(type(config), None)
    if kind is None or isinstance(kind, tuple):
        raise ModelError(
            f"{directory} is of type {config.model_type!r}, which has no single trunk in "
            "transformers; use an encoder or a decoder."
        )
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = False
    return load_pretrained(kind, directory, config, state=state, dtype=dtype, **options)


def load_base(manifest: Manifest) -> PreTrainedModel:
    """The trunk that the ingredients of a model descend from, fp32."""
    assert manifest.base is not None  # the manifest or the caller sees to it
    return load_backbone(resolve_base(manifest.base))


def width_of(backbone: PreTrainedModel, text: TextSpec) -> int:
    """How many numbers about a unit the heads of such a model read."""
    evidence = EVIDENCE_WIDTH if text.compares else 0
    return backbone.config.hidden_size + evidence + (UNIT_FEATURES if text.describes_units else 0)


def load_config(directory: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{directory / 'config.json'} cannot be used; the architecture must be one of "
            f"transformers, no code of the model is ever run: {error}"
        ) from error


def load_pretrained(
    kind: Any,
    directory: Path,
    config: PretrainedConfig,
    *,
    state: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """`from_pretrained` of a class of transformers, silent; no tensor is left at random.

    Attention is torch's fused one, or the plain one where the architecture has no other.
    """
    path = directory if state is None else None
    if state is None:
        options["use_safetensors"] = True
    else:
        options["state_dict"] = dict(state)
    try:
        with _silence():
            model, report = kind.from_pretrained(
                path,
                config=config,
                attn_implementation="sdpa" if kind._supports_sdpa else "eager",
                ignore_mismatched_sizes=True,  # to name them below
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # safetensors and transformers raise many kinds, some of them bare
        raise ModelError(f"the weights of {directory} cannot be loaded: {error}") from error
    absent = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    wrong = sorted(str(key) for key in report["mismatched_keys"])
    if state is not None:  # of our own file: a tensor too many was trained in another trunk
        wrong += sorted(report["unexpected_keys"])
    if absent or wrong:
        raise ModelError(
            f"the weights of {directory} do not fit {kind.__name__}: missing {absent[:3]}, "
            f"misshapen or unknown {wrong[:3]} ({len(absent)} and {len(wrong)} in all). "
            "Missing ones would be random numbers, so the model is refused."
        )
    return model.eval()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No progress bar and no report of skipped keys: we look at the keys ourselves."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
