"""Which part of the trunk trains, how, and what is spared by that.

When only the top layers train, what enters them never changes. `ActivationCache` stores it in fp16 and
`replaying` puts it back *inside the model that is trained*: `RewardModel.forward` itself runs, with the frozen
layers passing their input through, so there is no second definition of the forward pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tureen.model.heads import RewardHeads
from tureen.model.reward_model import RewardModel
from tureen.text.encoding import Window
from tureen_training.data.items import Row, batches, tensors
from tureen_training.runlog import progress


def layers_of(backbone: PreTrainedModel) -> nn.ModuleList:
    """The list of transformer layers of an encoder or decoder trunk."""
    depth = backbone.config.num_hidden_layers
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(f"{type(backbone).__name__} has no list of {depth} layers")


def freeze_below(model: RewardModel, trained_layers: int) -> None:
    """Only the top `trained_layers` layers and the heads keep a gradient; embeddings never do."""
    layers = layers_of(model.backbone)
    if not 0 <= trained_layers <= len(layers):
        raise ValueError(f"trained_layers must be in 0..{len(layers)}, got {trained_layers}")
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    for layer in layers[len(layers) - trained_layers :]:
        for parameter in layer.parameters():
            parameter.requires_grad_(True)


def frozen_digest(model: RewardModel) -> str:
    """Hash of what `freeze_below` froze."""
    digest = hashlib.sha256()
    for name, parameter in model.backbone.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def dropping_out(model: RewardModel, trained_layers: int, share: float) -> Iterator[None]:
    """Inside, the trained layers drop `share` of their activations and attention weights; the frozen ones none.

    Outside, nothing is dropped: a model is loaded, measured and served in evaluation mode.
    """
    layers = layers_of(model.backbone)
    trained = layers[len(layers) - trained_layers :]
    for module in trained.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        if hasattr(module, "attention_dropout"):  # decoders keep it as a number
            setattr(module, "attention_dropout", share)  # noqa: B010 - no field of nn.Module
    trained.train()
    try:
        yield
    finally:
        trained.eval()


@contextmanager
def low_rank(model: RewardModel, trained_layers: int, rank: int) -> Iterator[None]:
    """Inside, the trained layers' matrices move by W + 2 B A alone, B (D_out, rank) and A (rank, D_in).

    LoRA (Hu et al., arXiv:2106.09685), α = 2 · rank. Outside, the product is part of W: averages of checkpoints
    are averages of products, as they must be, because mean(B) mean(A) is not mean(B A). Needs `peft`.
    """
    from peft import LoraConfig  # only runs of this kind wait for it
    from peft.tuners.lora import LoraModel

    layers = layers_of(model.backbone)
    trained = set(layers[len(layers) - trained_layers :].modules())
    names = [
        name
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.Linear) and module in trained
    ]
    adapted = LoraModel(
        model.backbone, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), "default"
    )
    try:
        yield
    finally:
        adapted.merge_and_unload()


@contextmanager
def pooled_states(model: RewardModel) -> Iterator[None]:
    """Inside, the heads are the identity: `model` answers what they see, the pooled states (B, N, 1, D)."""
    heads = model.heads
    weight = heads.weight
    width = weight.shape[2]
    identity = torch.eye(width, device=weight.device)[None]
    model.heads = RewardHeads(identity, torch.zeros(1, width, device=weight.device))
    try:
        yield
    finally:
        model.heads = heads


class _Pass(nn.Module):
    """Stands for a frozen layer while the cache plays its part."""

    def forward(self, hidden_states: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        return hidden_states


class _Replay(nn.Module):
    """Stands for the last frozen layer and answers what it answered then."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None  # (B, T, D)

    def forward(self, _hidden_states: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        assert self.hidden is not None
        return self.hidden


class ActivationCache:
    """Output of the last frozen layer for a fixed set of windows.

    file: where it is kept; runs over the same windows, frozen weights and depth find it there. fp16, D numbers a
    token: 768 bytes a token for D = 384.
    """

    def __init__(
        self, directory: Path, weights: str, windows: Sequence[Window], frozen: int
    ) -> None:
        """weights: `frozen_digest` of the model. frozen: how many layers are."""
        digest = hashlib.sha256(f"{weights}:{frozen}:fp16-2".encode())
        self._place: dict[bytes, tuple[int, int]] = {}
        self._windows: list[Window] = []
        total = 0
        for window in windows:
            key = _key(window)
            if key not in self._place:
                digest.update(key)
                self._place[key] = (total, total + len(window.input_ids))
                self._windows.append(window)
                total += len(window.input_ids)
        self.tokens = total
        self.frozen = frozen
        self.file = directory / f"activations-{digest.hexdigest()[:16]}.npy"
        self._data: np.ndarray | None = None  # (tokens, D) float16

    def fill(self, model: RewardModel, pad_id: int, max_batch_tokens: int) -> None:
        """Compute what is not on disk yet, with the model whose weights were named."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(".partial")
            width = model.backbone.config.hidden_size
            data = np.lib.format.open_memmap(
                partial, mode="w+", dtype=np.float16, shape=(self.tokens, width)
            )
            self._compute(model, pad_id, max_batch_tokens, data)
            data.flush()
            partial.rename(self.file)
        self._data = np.load(self.file, mmap_mode="r")

    def _compute(
        self, model: RewardModel, pad_id: int, max_batch_tokens: int, data: np.ndarray
    ) -> None:
        caught: list[Tensor] = []
        layer = layers_of(model.backbone)[self.frozen - 1]

        def catch(_module: nn.Module, _args: object, output: Tensor) -> None:
            caught.append(output)

        hook = layer.register_forward_hook(catch)
        rows = [Row(0, 0, window) for window in self._windows]
        device = model.heads.weight.device
        try:
            with torch.inference_mode():
                for batch in progress(list(batches(rows, max_batch_tokens)), "frozen layers"):
                    model(**tensors([row.window for row in batch], pad_id, device))
                    hidden = caught.pop().to(torch.float16).cpu().numpy()  # (B, T, D)
                    for b, row in enumerate(batch):
                        start, end = self._place[_key(row.window)]
                        data[start:end] = hidden[b, : end - start]
        finally:
            hook.remove()

    def hidden(self, windows: Sequence[Window]) -> Tensor:
        """Stored activations, padded on the right with zeros. (B, T, D) float32."""
        assert self._data is not None, "fill() comes first"
        length = max(len(window.input_ids) for window in windows)
        out = np.zeros((len(windows), length, self._data.shape[1]), dtype=np.float32)
        for b, window in enumerate(windows):
            start, end = self._place[_key(window)]
            out[b, : end - start] = self._data[start:end]
        return torch.from_numpy(out)


def _key(window: Window) -> bytes:
    return hashlib.sha256(
        window.input_ids.tobytes() + b"|" + window.token_type_ids.tobytes()
    ).digest()


@contextmanager
def replaying(model: RewardModel, cache: ActivationCache) -> Iterator[_Replay]:
    """Inside, the frozen layers of `model` are stand-ins: set `.hidden` before each forward pass."""
    layers = layers_of(model.backbone)
    frozen = list(layers[: cache.frozen])
    replay = _Replay()
    try:
        for index in range(cache.frozen - 1):
            layers[index] = _Pass()
        layers[cache.frozen - 1] = replay
        yield replay
    finally:
        for index, layer in enumerate(frozen):
            layers[index] = layer
