"""The files inside a model directory: ingredients read and verified, tokenizers copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tureen.model.files import sha256_file
from tureen.model.manifest import FILE, TOKENIZER_FILES, Ingredient, ModelError

INGREDIENTS: Final = "ingredients"
BACKBONE: Final = "backbone."
HEAD_WEIGHT, HEAD_BIAS = "heads.weight", "heads.bias"


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when asked for."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        """prefix: keep the names that start with it, without it."""
        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is not a whole safetensors file ({error}); fetch or save it again."
            ) from error
        self._prefix = prefix
        self._names = {
            name.removeprefix(prefix): None
            for name in self._file.keys()  # noqa: SIM118 (not a dict)
            if name.startswith(prefix)
        }

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(self._prefix + name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, without reading it."""
        slices = {name: self._file.get_slice(self._prefix + name) for name in self._names}
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


def verify_ingredient(directory: Path, ingredient: Ingredient) -> Path:
    """Path of the ingredient's file, which has the hash the manifest states."""
    path = directory / ingredient.file
    if not path.is_file():
        raise ModelError(f"{path}, which {FILE} names, is missing; fetch the model again.")
    found = sha256_file(path)
    if found != ingredient.sha256:
        raise ModelError(
            f"{path} has sha256 {found}; {FILE} states {ingredient.sha256}. "
            "The file is damaged or of another version: fetch the model again."
        )
    return path


def refuse_foreign(directory: Path, marker: str = FILE) -> None:
    """Raise unless `directory` may be replaced: it is absent, empty, or has our `marker` file."""
    if not directory.exists() or (directory / marker).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise ModelError(
            f"{directory} is there, without a {marker}: it is not Tureen's and will not be "
            "replaced. Give another path."
        )


def copy_tokenizer(source: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
