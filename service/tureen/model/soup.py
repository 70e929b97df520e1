"""Weight averages: one model out of several checkpoints that share a pretrained ancestor.

    θ_soup = Σᵢ wᵢ θᵢ,   wᵢ ≥ 0,   Σᵢ wᵢ = 1

uniform wᵢ = 1/M: Wortsman et al. 2022, arXiv:2203.05482; of reward models: Ramé et al. 2024, WARM,
arXiv:2401.12187. Deltas to the common base average alike: θ_base + Σᵢ wᵢ (θᵢ − θ_base). Sums are in
fp64 whatever the stored type is. A shared ancestor is necessary, not sufficient: training tests
for a barrier before it keeps a soup.

Task arithmetic and TIES (`averaging`) are no convex combinations. They too are formed when the
model is loaded, from the ingredients and the `method` that the manifest names: the ingredients
keep their lineage and stay members, other coefficients are another soup, and nothing is rounded twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import reprlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from safetensors.torch import save_file
from torch import Tensor

from tureen.contracts import Calibration
from tureen.errors import IncompatibleSoup
from tureen.model import checkpoint
from tureen.model.averaging import check_count
from tureen.model.base import resolve_base
from tureen.model.directory import ModelDirectory, open_model
from tureen.model.files import replacing, sha256_file
from tureen.model.manifest import (
    LINEAR,
    TOKENIZER_FILES,
    HeadSpec,
    Ingredient,
    Manifest,
    Method,
    write_manifest,
)
from tureen.model.reward_model import load_base, load_config
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

_INCIDENTAL: Final = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
)
"""Entries of config.json that do not change what the trunk computes."""


def make_soup(
    directories: Sequence[str | Path],
    coefficients: Sequence[float] | None,
    out: str | Path,
    recipe: str,
    force: bool = False,
    method: Method = LINEAR,
) -> Manifest:
    """A model directory of the ingredients of `directories`, which may be linear soups themselves.

    The calibrations and the temperature become the weighted means of the ingredients': right for
    identical ingredients, a start for others. They are marked as not fitted; fit them anew.

    Args:
        coefficients: one for each directory, ≥ 0, adding up to 1; None is uniform.
        out: replaced in one step if it is a Tureen model; another existing directory is refused.
        recipe: how the ingredients were chosen: "uniform", "weighted", "greedy", …
        force: average although no shared pretrained ancestor is on record. Nothing else is forced.
        method: how trunks are combined; all but linear take single checkpoints.
    Raises:
        ValueError: no directories, coefficients that are no convex combination, or a method that
            needs a base where none is shared.
        ModelError: a directory that is no sound Tureen model.
        IncompatibleSoup: they differ in ancestor, architecture, heads, text or shapes.
    """
    if not directories:
        raise ValueError("no ingredients were given; a soup needs at least one model directory.")
    if coefficients is None:
        coefficients = [1 / len(directories)] * len(directories)
    check_count(len(directories), coefficients)
    out = Path(out)
    refuse_foreign(out)
    opened = [open_model(directory) for directory in directories]
    require_compatible(opened, force=force)
    for model in opened:
        if method != LINEAR and len(model.manifest.ingredients) > 1:
            raise IncompatibleSoup(
                f"{model.directory} is a soup of {len(model.manifest.ingredients)}; {method.name} "
                "takes single checkpoints: give its ingredients.",
                field="method",
            )
    same_base = len({_ancestor(model) for model in opened}) == 1
    same_encoding = len({model.manifest.encoding for model in opened}) == 1
    whole = not (same_base and same_encoding)  # deltas have no common origin: make them whole
    with replacing(out) as fresh:
        (fresh / INGREDIENTS).mkdir()
        ingredients: list[Ingredient] = []
        for model, coefficient in zip(opened, coefficients, strict=True):
            for ingredient in model.manifest.ingredients:
                file = f"{INGREDIENTS}/{len(ingredients)}.safetensors"
                source = verify_ingredient(model.directory, ingredient)
                if whole and model.manifest.encoding == "delta":
                    _write_whole(model, source, fresh / file)
                else:
                    shutil.copyfile(source, fresh / file)
                ingredients.append(
                    dataclasses.replace(
                        ingredient,
                        name=_unused(ingredient.name, ingredients),
                        file=file,
                        coefficient=coefficient * ingredient.coefficient,
                        sha256=sha256_file(fresh / file),
                    )
                )
        first = opened[0]
        manifest = dataclasses.replace(
            first.manifest,
            model_id=out.resolve().name,
            base=first.manifest.base if same_base else None,
            encoding="full" if whole else first.manifest.encoding,
            heads=_mean_heads(opened, coefficients),
            temperature=math.fsum(
                w * model.manifest.temperature
                for w, model in zip(coefficients, opened, strict=True)
            ),
            ingredients=tuple(ingredients),
            recipe=recipe,
            method=method,
            lineage={},
            data_licences=tuple(
                dict.fromkeys(name for model in opened for name in model.manifest.data_licences)
            ),
            calibration_set=None,
            metrics={},
            reference=(),
        )
        _require_same_shapes(fresh, ingredients)
        if manifest.encoding == "full":
            shutil.copyfile(_config_directory(first) / "config.json", fresh / "config.json")
        if whole or first.tokenizer_directory == first.directory:
            copy_tokenizer(first.tokenizer_directory, fresh)
        write_manifest(fresh, manifest)
    return manifest


def inspect(directory: str | Path) -> dict[str, Any]:
    """What a Tureen model directory is made of, its files verified; JSON-able.

    Of each ingredient: coefficient, file, bytes, tensors, and the L2 norm of its backbone tensors
    (of the change to the base where the encoding is "delta").
    """
    model = open_model(directory)
    _require_ours(model)
    manifest = model.manifest
    ingredients = []
    for ingredient in manifest.ingredients:
        path = verify_ingredient(model.directory, ingredient)
        backbone = StoredTensors(path, BACKBONE)
        norms = (float(tensor.double().norm()) for tensor in backbone.values())
        ingredients.append(
            {
                "name": ingredient.name,
                "coefficient": ingredient.coefficient,
                "file": ingredient.file,
                "sha256": ingredient.sha256,
                "bytes": path.stat().st_size,
                "tensors": len(backbone),
                "norm": math.hypot(*norms),
                "lineage": ingredient.lineage,
            }
        )
    return {
        "model_id": manifest.model_id,
        "soup": manifest.soup,
        "fingerprint": model.fingerprint,
        "method": dataclasses.asdict(manifest.method),
        "encoding": manifest.encoding,
        "base": None if manifest.base is None else dataclasses.asdict(manifest.base),
        "heads": [dataclasses.asdict(head) for head in manifest.heads],
        "calibration_set": manifest.calibration_set,
        "data_licences": list(manifest.data_licences),
        "ingredients": ingredients,
    }


def diff(one: str | Path, other: str | Path) -> dict[str, Any]:
    """How two models differ: fields of the manifests, tensors of the soups they form; JSON-able.

    "tensors" has, for each tensor that differs, the L2 distance, the same over the norm of the
    first ("relative"; None where that norm is 0) and the greatest absolute difference. "layers"
    has the L2 distance of each layer.
    """
    loaded = [checkpoint.load(path) for path in (one, other)]
    fields = [dataclasses.asdict(model.manifest) for model in loaded]
    states = [_soup_state(model) for model in loaded]
    tensors: dict[str, dict[str, float | None]] = {}
    layers: dict[str, float] = {}
    for name in dict.fromkeys([*states[0], *states[1]]):
        shapes = [tuple(state[name].shape) if name in state else "none" for state in states]
        if shapes[0] != shapes[1]:
            raise IncompatibleSoup(
                f"tensor {name!r}: {one} has {shapes[0]}, {other} has {shapes[1]}; "
                "only models of one architecture can be compared, so give two of one base.",
                field=name,
            )
        difference = states[0][name].double() - states[1][name].double()
        distance, norm = float(difference.norm()), float(states[0][name].double().norm())
        if distance == 0:
            continue
        tensors[name] = {
            "l2": distance,
            "relative": distance / norm if norm > 0 else None,
            "max_abs": float(difference.abs().max()),
        }
        layer = _layer(name)
        layers[layer] = math.hypot(layers.get(layer, 0.0), distance)
    return {
        "manifest": {
            key: [fields[0][key], fields[1][key]]
            for key in fields[0]
            if fields[0][key] != fields[1][key]
        },
        "tensors": tensors,
        "layers": layers,
    }


def _soup_state(loaded: checkpoint.LoadedModel) -> dict[str, Tensor]:
    """Tensors of the model, of the heads only the soup's."""
    return {
        name: tensor[0] if name in (HEAD_WEIGHT, HEAD_BIAS) else tensor
        for name, tensor in loaded.model.state_dict().items()
    }


def _layer(name: str) -> str:
    """The name up to its first number, as in "backbone.encoder.layer.3", else two parts of it."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:2])


def _ancestor(model: ModelDirectory) -> str | None:
    return None if model.manifest.base is None else model.manifest.base.sha256


def _config_directory(model: ModelDirectory) -> Path:
    if model.manifest.encoding == "full":
        return model.directory
    assert model.manifest.base is not None  # the manifest sees to it
    return resolve_base(model.manifest.base)


def require_compatible(models: Sequence[ModelDirectory], *, force: bool = False) -> None:
    """Raise IncompatibleSoup, naming the first difference, unless a soup of these can be made."""
    for model in models:
        _require_ours(model)
        if model.manifest.method != LINEAR:
            raise IncompatibleSoup(
                f"{model.directory} is a soup by {model.manifest.method.name}, which is no average "
                "of its ingredients; give the ingredients themselves.",
                field="method",
            )
    first, *others = models
    expected = _traits(first)
    for other in others:
        if not force and (_ancestor(first) is None or _ancestor(first) != _ancestor(other)):
            raise IncompatibleSoup(
                f"base: {first.directory} descends from {_ancestor(first)}, {other.directory} from "
                f"{_ancestor(other)}; only models of one pretrained ancestor can be averaged. Name "
                "the base in their manifests, or force the soup if you know that they share it.",
                field="base",
            )
        given = _traits(other)
        for trait in expected:
            if expected[trait] != given[trait]:
                name, left, right = _difference(trait, expected[trait], given[trait])
                raise IncompatibleSoup(
                    f"{name}: {first.directory} has {left}, {other.directory} has {right}; "
                    "only models that agree here can be averaged.",
                    field=name,
                )


def _require_ours(model: ModelDirectory) -> None:
    if model.manifest.kind != "reward_model":
        raise IncompatibleSoup(
            f"{model.directory} is a third party's classifier; only Tureen reward models "
            "(directories with a tureen.json) are soups or can become one."
        )


def _traits(model: ModelDirectory) -> dict[str, Any]:
    """What models of one soup share, by name."""
    heads = model.manifest.heads
    config = load_config(_config_directory(model)).to_dict()
    return {
        "heads": [head.name for head in heads],
        "granularity": [head.granularity.value for head in heads],
        "weight": [head.weight for head in heads],
        "combine": [head.combine for head in heads],
        "text": dataclasses.asdict(model.manifest.text),
        "architecture": {k: v for k, v in config.items() if k not in _INCIDENTAL},
        "tokenizer": _tokenizer(model.tokenizer_directory),
    }


def _tokenizer(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer.json"
    if not path.is_file():
        return {
            name: sha256_file(directory / name)
            for name in TOKENIZER_FILES
            if (directory / name).is_file()
        }
    content = json.loads(path.read_text(encoding="utf-8"))
    # padding and truncation are left over from whoever used the tokenizer last
    return {key: content[key] for key in content if key not in ("padding", "truncation")}


def _difference(trait: str, one: Any, other: Any) -> tuple[str, str, str]:
    """Name of the first thing that differs, and how it reads on both sides."""
    if isinstance(one, dict):
        key = next(key for key in {**one, **other} if one.get(key) != other.get(key))
        return f"{trait}.{key}", reprlib.repr(one.get(key)), reprlib.repr(other.get(key))
    return trait, str(one), str(other)


def _require_same_shapes(directory: Path, ingredients: Sequence[Ingredient]) -> None:
    """Tensors of one name have one shape; their names are compared where they are averaged."""
    known: dict[str, tuple[tuple[int, ...], str]] = {}
    for ingredient in ingredients:
        for name, shape in StoredTensors(directory / ingredient.file).shapes().items():
            expected, owner = known.setdefault(name, (shape, ingredient.name))
            if shape != expected:
                raise IncompatibleSoup(
                    f"tensor {name!r}: {owner} has {expected}, {ingredient.name} has {shape}; "
                    "only checkpoints of one architecture and vocabulary can be averaged.",
                    field=name,
                )


def _write_whole(model: ModelDirectory, delta: Path, out: Path) -> None:
    """The checkpoint that a delta stands for, in full, fp32."""
    assert model.manifest.base is not None  # the manifest sees to it
    heads = StoredTensors(delta)
    tensors = {name: heads[name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
    deltas = StoredTensors(delta, BACKBONE)
    base = load_base(model.manifest).state_dict()
    for name, tensor in base.items():
        changed = tensor + deltas[name].float() if name in deltas else tensor.clone()
        tensors[BACKBONE + name] = changed.contiguous()
    save_file(tensors, out, metadata={"format": "pt"})


def _unused(name: str, ingredients: Sequence[Ingredient]) -> str:
    """The name, numbered from the second on if others bear it."""
    taken = {ingredient.name for ingredient in ingredients}
    candidates = (name if i == 1 else f"{name}-{i}" for i in itertools.count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _mean_heads(
    models: Sequence[ModelDirectory], coefficients: Sequence[float]
) -> tuple[HeadSpec, ...]:
    """Heads of the soup, with weighted means of mean and standard deviation."""

    def mean_of(index: int, field: Literal["mean", "std"]) -> float:
        parts = (getattr(model.manifest.heads[index].calibration, field) for model in models)
        return math.fsum(w * part for w, part in zip(coefficients, parts, strict=True))

    return tuple(
        dataclasses.replace(
            head, calibration=Calibration(mean=mean_of(i, "mean"), std=mean_of(i, "std"))
        )
        for i, head in enumerate(models[0].manifest.heads)
    )
