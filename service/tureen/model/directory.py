"""Open a model without its weights: what it is, and where its tokenizer lies. Needs no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tureen.errors import IncompatibleSoup, InvalidRequest, nearest, quoted
from tureen.model import manifest as manifests
from tureen.model import third_party
from tureen.model.base import resolve_base
from tureen.model.files import sha256_file
from tureen.model.manifest import TOKENIZER_FILES, Manifest, ModelError, check_coefficients
from tureen.model.schema import SchemaError

EXPORT_FOLDERS: Final = {"float32": "onnx", "int8": "onnx-int8"}
EXPORT_MODEL: Final = "model.onnx"
EXPORT_RECORD: Final = "export.json"


MODELS_VARIABLE: Final = "TUREEN_MODELS"
"""Environment variable: directories that hold model directories, separated like PATH."""

_CHECKOUT: Final = Path(__file__).parents[2] / "models"
"""service/models; no wheel carries a model."""


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A model described.

    fingerprint: of the model as `manifest` describes it; loading verifies that the files agree.
    """

    directory: Path
    manifest: Manifest
    tokenizer_directory: Path
    fingerprint: str


def find_model(model: str | Path) -> str | Path:
    """The directory a name stands for; a Hugging Face id, which has one slash, stays as it is.

    Raises:
        ModelError: no such directory, with the nearest name that is known and all that was tried.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    name = str(model)
    if "/" in name or os.sep in name:
        is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
        if is_hub_id:
            return name
        raise ModelError(f"{name} is no directory; give the directory of a model.")
    listed = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    folders = [*(Path(folder) for folder in listed if folder), _CHECKOUT]
    tried = [path, *(folder / name for folder in folders)]
    for candidate in tried:
        if candidate.is_dir():
            return candidate
    known = {one.name for folder in folders for one in _models_in(folder)}
    raise ModelError(
        f"no model {quoted(name)}{nearest(name, known) if known else ''}. Give a directory, the id "
        f"of a Hugging Face repository (owner/name), 'stub' where it is served, or set {MODELS_VARIABLE} to where "
        f"your models are; tried {', '.join(map(str, tried))}."
    )


def _models_in(folder: Path) -> list[Path]:
    """Directories there that are a model by their looks; none where the folder cannot be read."""
    try:
        directories = [one for one in folder.iterdir() if one.is_dir()]
    except OSError:
        return []
    signs = (manifests.FILE, "config.json")
    return [one for one in directories if any((one / sign).is_file() for sign in signs)]


def open_model(path: str | Path | ModelDirectory) -> ModelDirectory:
    """A Tureen directory, or a third party's directory or hub id; what is open stays as it is.

    Raises:
        ModelError: it is neither, or has no tokenizer of its own nor of a base.
    """
    if isinstance(path, ModelDirectory):
        return path
    directory = Path(path).expanduser()
    if not directory.is_dir():
        if Path(path).is_absolute() or str(path).count("/") != 1 or str(path).startswith("."):
            raise ModelError(f"{path} is no directory; give the directory of a model.")
        directory = third_party.fetch(str(path))
        manifest = third_party.describe(directory, model_id=str(path))
    elif (directory / manifests.FILE).is_file():
        manifest = manifests.read_manifest(directory)
    else:
        manifest = third_party.describe(directory, model_id=directory.resolve().name)
    return ModelDirectory(
        directory=directory,
        manifest=manifest,
        tokenizer_directory=_tokenizer_directory(directory, manifest),
        fingerprint=manifests.fingerprint(directory, manifest),
    )


def reweighted(model: ModelDirectory, coefficients: Mapping[str, float]) -> ModelDirectory:
    """The same ingredients in other proportions; the files stay as they are.

    The calibration stays that of `model`, and is marked as not fitted; what was stored of its
    rewards is left out, for these are others.

    Args:
        coefficients: ingredient -> weight, ≥ 0, adding up to 1; one left out weighs nothing.
    Raises:
        IncompatibleSoup: a single checkpoint or a third party's model, or an ingredient that is
            none of `model`'s.
        InvalidRequest: coefficients that are no convex combination.
    """
    manifest = model.manifest
    names = [ingredient.name for ingredient in manifest.ingredients]
    if len(names) < 2:
        raise IncompatibleSoup(
            f"{manifest.model_id} is no soup but a single model, which has nothing to weigh; serve a "
            "soup of several ingredients (`tureen soup make`).",
            field="coefficients",
        )
    for name in coefficients:
        if name not in names:
            raise IncompatibleSoup(
                f"{quoted(name)} is no ingredient of {manifest.model_id}, and only those share its "
                f"ancestor for certain{nearest(name, names)}",
                field="coefficients",
                got=name,
            )
    try:
        check_coefficients(coefficients.values())
    except SchemaError as error:
        raise InvalidRequest(str(error), field="coefficients") from None
    weighed = dataclasses.replace(
        manifest,
        ingredients=tuple(
            dataclasses.replace(one, coefficient=float(coefficients.get(one.name, 0.0)))
            for one in manifest.ingredients
        ),
        recipe="weighted",
        calibration_set=None,
        metrics={},
        reference=(),
        reward_reference=None,
    )
    fingerprint = manifests.fingerprint(model.directory, weighed)
    if fingerprint == model.fingerprint:
        return model
    return dataclasses.replace(model, manifest=weighed, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True)
class Export:
    """An ONNX form of a model that lies beside its weights.

    fingerprint: of the weights in it: the model's own in float32; int8 weights are others, and have
    another, so that no reward of theirs passes for one of the model's.
    record: what was found when it was made.
    """

    path: Path
    fingerprint: str
    record: dict[str, Any]


def current_export(model: ModelDirectory, dtype: str = "float32") -> Export | None:
    """The export of these very weights, verified by its hashes; None where there is none.

    Args:
        dtype: a key of EXPORT_FOLDERS.
    Raises:
        ModelError: the export claims to be of these weights and is damaged.
    """
    folder = model.directory / EXPORT_FOLDERS[dtype]
    try:
        record = json.loads((folder / EXPORT_RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{folder / EXPORT_RECORD}: {error}; export the model again.") from error
    if record.get("fingerprint") != model.fingerprint:
        return None
    for name, sha256 in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != sha256:
            raise ModelError(f"{path} is missing or damaged; export the model again.")
    return Export(
        folder / EXPORT_MODEL, export_fingerprint(model.fingerprint, dtype, record["files"]), record
    )


def export_fingerprint(model: str, dtype: str, files: Mapping[str, str]) -> str:
    """Of an export: of which model it is, in which dtype, and the hashes of its files."""
    if dtype == "float32":
        return model
    parts = json.dumps({"model": model, "dtype": dtype, "files": dict(files)}, sort_keys=True)
    return "sha256:" + hashlib.sha256(parts.encode()).hexdigest()


def _tokenizer_directory(directory: Path, manifest: Manifest) -> Path:
    if any((directory / name).is_file() for name in TOKENIZER_FILES):
        return directory
    if manifest.base is None:
        raise ModelError(
            f"{directory} has no tokenizer and names no base that has one; put "
            f"{TOKENIZER_FILES[0]} there."
        )
    return resolve_base(manifest.base)
