"""The same model on each backend this machine can run, from a copy that is exported for the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tureen.model.directory import find_model


@dataclass(frozen=True)
class Variant:
    """flags: of `tureen serve`. options: the same for `load_model`. is_int8: not comparable as fp32."""

    name: str
    model: str
    flags: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    is_int8: bool = False


STUB = Variant("stub", "stub")


@dataclass(frozen=True)
class Variants:
    """default: what a user who names no backend gets. each: torch in fp32 first. exports: what
    `tureen export` said of each. left_out: which of them this machine or model cannot run, and why."""

    default: Variant
    each: tuple[Variant, ...]
    exports: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def of(model: str, scratch: Path) -> Variants:
    if model == STUB.model:
        return Variants(STUB, (STUB,))
    copy, fp32 = export(model, scratch)
    exports, left_out = {"onnx": fp32}, {}
    each = [
        Variant(backend, str(copy), ("--backend", backend), {"backend": backend})
        for backend in ("torch", "onnx")
    ]
    try:
        _, exports["int8"] = export(model, scratch, "--dtype", "int8")
        flags, options = (
            ("--backend", "onnx", "--dtype", "int8"),
            {"backend": "onnx", "dtype": "int8"},
        )
        each.append(Variant("int8", str(copy), flags, options, is_int8=True))
    except subprocess.CalledProcessError as error:  # above the bound of its parity gate
        left_out["int8"] = error.stderr.strip()
    return Variants(Variant("auto", str(copy)), tuple(each), exports, left_out)


def export(model: str, scratch: Path, *flags: str) -> tuple[Path, dict[str, Any]]:
    """A copy of a model's directory under `scratch`, with its ONNX form, and what `export` said.

    Raises:
        subprocess.CalledProcessError: the export was refused; its stderr says why.
    """
    source = Path(find_model(model))
    copy = scratch / source.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("onnx*"))
    command = [sys.executable, "-m", "tureen.cli", "export", str(copy), "--json", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    del report["path"]  # of a scratch directory
    return copy, report
