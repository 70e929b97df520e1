"""Save a trained `RewardModel`, load a model directory as the soup it describes.

safetensors only, no pickle.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tureen.model import sequence_classifier
from tureen.model.averaging import TaskVector, average, combine
from tureen.model.directory import ModelDirectory, open_model
from tureen.model.files import replacing, sha256_file
from tureen.model.heads import RewardHeads
from tureen.model.manifest import (
    LINEAR,
    Ingredient,
    Manifest,
    ModelError,
    write_manifest,
)
from tureen.model.reward_model import RewardModel, load_backbone, load_base, width_of
from tureen.model.sequence_classifier import SequenceClassifier
from tureen.model.storage import (
    BACKBONE,
    HEAD_BIAS,
    HEAD_WEIGHT,
    INGREDIENTS,
    StoredTensors,
    copy_tokenizer,
    refuse_foreign,
    verify_ingredient,
)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model directory in memory.

    model: forward(input_ids, attention_mask, token_type_ids, span_weights) -> (B, N, G, H) float32.
    """

    model: RewardModel | SequenceClassifier
    manifest: Manifest
    directory: Path
    tokenizer_directory: Path
    fingerprint: str


def load(
    path: str | Path | ModelDirectory,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """The model of a directory, in evaluation mode, every file verified.

    Args:
        path: a model directory, or a third party's directory or hub id; or one that is open.
        dtype: of the backbone; the soup is formed in fp32 before, the heads stay fp32 after.
    Raises:
        ModelError: unknown format, wrong hash, damaged or missing file, unknown or misshapen tensor.
    """
    opened = open_model(path)
    if opened.manifest.kind == "sequence_classifier":
        model = sequence_classifier.load(opened, dtype=dtype)
    else:
        model = _form_soup(opened, dtype)
    return LoadedModel(
        model=model.to(device).eval(),
        manifest=opened.manifest,
        directory=opened.directory,
        tokenizer_directory=opened.tokenizer_directory,
        fingerprint=opened.fingerprint,
    )


def save(
    directory: str | Path,
    model: RewardModel,
    manifest: Manifest,
    *,
    tokenizer_directory: Path | None = None,
) -> Manifest:
    """Write one checkpoint as a model directory, in one step: a crash leaves what was there before.

    A delta is rounded to fp16, so evaluate and calibrate what `load` gives back, not what was
    trained.

    Args:
        model: with a single group of heads.
        manifest: its `ingredients` are written anew: one, named after the model, of its lineage.
        tokenizer_directory: its tokenizer files are copied; needless where the base's serve.
    Returns:
        The manifest as written.
    Raises:
        ModelError: a soup (save its manifest instead), heads that disagree with the manifest, a
            delta that fp16 cannot hold, or a `directory` that is there and is no model.
    """
    directory = Path(directory)
    if model.heads.groups != 1:
        raise ModelError(
            f"the model has {model.heads.groups} groups of heads: it is a soup, which is stored as "
            "ingredients and coefficients; use soup.make_soup or write_manifest."
        )
    if model.heads.weight.shape[1] != len(manifest.heads):
        raise ModelError(
            f"the model has {model.heads.weight.shape[1]} heads, its manifest "
            f"{len(manifest.heads)}; describe each head once, in the model's order."
        )
    tensors = _backbone_tensors(model, manifest)
    tensors[HEAD_WEIGHT] = model.heads.weight[0].detach().float().cpu().contiguous()
    tensors[HEAD_BIAS] = model.heads.bias[0].detach().float().cpu().contiguous()
    refuse_foreign(directory)
    with replacing(directory) as fresh:
        (fresh / INGREDIENTS).mkdir()
        file = f"{INGREDIENTS}/checkpoint.safetensors"
        save_file(tensors, fresh / file, metadata={"format": "pt"})
        if manifest.encoding == "full":
            model.backbone.config.save_pretrained(fresh)
        if tokenizer_directory is not None:
            copy_tokenizer(tokenizer_directory, fresh)
        ingredient = Ingredient(
            name=manifest.model_id,
            file=file,
            coefficient=1.0,
            sha256=sha256_file(fresh / file),
            lineage=manifest.lineage,
        )
        written = dataclasses.replace(manifest, ingredients=(ingredient,), recipe="single")
        write_manifest(fresh, written)
    return written


def _backbone_tensors(model: RewardModel, manifest: Manifest) -> dict[str, Tensor]:
    state = {name: tensor.detach().cpu() for name, tensor in model.backbone.state_dict().items()}
    if manifest.encoding == "full":
        # clone: safetensors refuses tensors that share memory (tied weights)
        return {BACKBONE + name: tensor.clone().contiguous() for name, tensor in state.items()}
    assert manifest.base is not None  # the manifest sees to it
    base = load_base(manifest).state_dict()
    deltas: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name not in base or base[name].shape != tensor.shape:
            raise ModelError(
                f"tensor {name!r} {tuple(tensor.shape)} is not in the base {manifest.base.repo} "
                'like that; store the checkpoint with encoding="full".'
            )
        if torch.equal(base[name], tensor.to(base[name].dtype)):
            continue
        delta = (tensor.float() - base[name].float()).half()
        if not torch.isfinite(delta).all():
            raise ModelError(
                f"the change of {name!r} is not finite in fp16: the run diverged, "
                'or the checkpoint needs encoding="full".'
            )
        deltas[BACKBONE + name] = delta.contiguous()
    return deltas


def _form_soup(opened: ModelDirectory, dtype: torch.dtype) -> RewardModel:
    manifest, directory = opened.manifest, opened.directory
    paths = [verify_ingredient(directory, ingredient) for ingredient in manifest.ingredients]
    states = [StoredTensors(path, BACKBONE) for path in paths]
    if manifest.encoding == "delta":
        assert manifest.base is not None  # the manifest sees to it
        backbone = load_base(manifest)
        parameters = backbone.state_dict()
        deltas = combine(manifest.method, states, manifest.coefficients)
        with torch.no_grad():
            for name, delta in deltas.items():
                if name not in parameters or parameters[name].shape != delta.shape:
                    raise ModelError(
                        f"{directory} changes {name!r} {tuple(delta.shape)}, which the base "
                        f"{manifest.base.repo} does not have like that; the checkpoint belongs to "
                        "another base: name that one."
                    )
                parameters[name].add_(delta)
        nn.Module.to(backbone, dtype)  # transformers' override is typed wrongly
    else:
        if manifest.method == LINEAR:
            state = average(states, manifest.coefficients)
        else:
            base = load_base(manifest).state_dict()
            vectors = [TaskVector(state, base) for state in states]
            changes = combine(manifest.method, vectors, manifest.coefficients)
            state = {
                name: base[name] + changes[name] if name in changes else base[name] for name in base
            }
        backbone = load_backbone(directory, state=state, dtype=dtype)
    return RewardModel(backbone, _heads(paths, manifest, width_of(backbone, manifest.text)))


def _heads(paths: list[Path], manifest: Manifest, width: int) -> RewardHeads:
    weights, biases = [], []
    expected = (len(manifest.heads), width)
    for path in paths:
        stored = StoredTensors(path)
        if HEAD_WEIGHT not in stored or HEAD_BIAS not in stored:
            raise ModelError(
                f"{path} lacks {HEAD_WEIGHT} or {HEAD_BIAS}; save the checkpoint again."
            )
        weight, bias = stored[HEAD_WEIGHT], stored[HEAD_BIAS]
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ModelError(
                f"{path} has heads {tuple(weight.shape)}; {len(manifest.heads)} heads on this "
                f"backbone are {expected}."
            )
        weights.append(weight)
        biases.append(bias)
    return RewardHeads.of_soup(weights, biases, manifest.coefficients)
