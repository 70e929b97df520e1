"""`tureen export`: the ONNX form of a model, written only when it gives the same values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tureen.commands.output import print_json
from tureen.model.directory import find_model
from tureen.model.export_onnx import export
from tureen.usage import Parser


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="tureen export",
        description="Write the ONNX form of a model. It is kept only when ONNX Runtime gives the "
        "values that torch gives; `tureen serve` takes it by itself on a CPU.",
    )
    parser.add_argument("model", metavar="MODEL", help="a directory or the name of a model")
    parser.add_argument("--out", type=Path, help="folder to write [default MODEL/onnx]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.read(argv)
    report = export(find_model(arguments.model), arguments.out)
    if arguments.json:
        print_json({**dataclasses.asdict(report), "path": str(report.path)})
        return 0
    Console(highlight=False).print(
        f"{report.path}: differs from torch by at most {report.max_abs_error:.1e} in {report.values} "
        f"values of {report.batches} batches ({report.tolerance:.0e} is allowed)"
    )
    return 0
