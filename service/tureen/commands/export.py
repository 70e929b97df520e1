"""`tureen export`: the ONNX form of a model, written only when it gives the same values or, in int8,
rewards that are close enough."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tureen.commands.in_process import read_samples
from tureen.commands.output import print_json
from tureen.engine.int8_export import MAX_FLIP_RATE, MAX_REWARD_ERROR, export_int8
from tureen.engine.parity import describe
from tureen.model.directory import EXPORT_FOLDERS, find_model
from tureen.model.export_onnx import export
from tureen.usage import Parser, UsageError


def main(argv: Sequence[str]) -> int:
    arguments = _parser().read(argv)
    model = find_model(arguments.model)
    if arguments.dtype == "int8":
        return _int8(model, arguments)
    for name in ("data", "max_flip_rate", "max_reward_error"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for --dtype int8; leave it out.")
    report = export(model, arguments.out)
    _print(
        arguments,
        {**dataclasses.asdict(report), "path": str(report.path)},
        f"{report.path}: differs from torch by at most {report.max_abs_error:.1e} in {report.values} "
        f"values of {report.batches} batches ({report.tolerance:.0e} is allowed)",
    )
    return 0


def _int8(model: str | Path, arguments: argparse.Namespace) -> int:
    bounds = {
        name: getattr(arguments, name)
        for name in ("max_flip_rate", "max_reward_error")
        if getattr(arguments, name) is not None
    }
    samples = read_samples(arguments.data) if arguments.data is not None else ()
    report = export_int8(model, samples, out=arguments.out, **bounds)
    parity = report.parity
    found = {**dataclasses.asdict(report), "path": str(report.path)}
    found["parity"]["flip_rate"] = parity.flip_rate
    _print(
        arguments,
        found,
        f"{report.path}: {report.matrices} matrices in int8; on {report.texts} {describe(parity)}, "
        "against float32",
    )
    return 0


def _print(arguments: argparse.Namespace, found: dict[str, object], told: str) -> None:
    if arguments.json:
        print_json(found)
    else:
        Console(highlight=False).print(told, markup=False, soft_wrap=True)


def _parser() -> Parser:
    parser = Parser(
        prog="tureen export",
        description="Write the ONNX form of a model. In float32 it is kept only when ONNX Runtime "
        "gives the values that torch gives; `tureen serve` takes it by itself where it is faster. In "
        "int8 it is kept only when rewards stay close to those of float32; `tureen serve --dtype "
        "int8` takes it, and answers name its own fingerprint.",
    )
    parser.add_argument("model", metavar="MODEL", help="a directory or the name of a model")
    parser.add_argument(
        "--dtype", choices=tuple(EXPORT_FOLDERS), default="float32", help="[default float32]"
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write [default MODEL/onnx, or MODEL/onnx-int8]"
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="int8: samples to calibrate and judge on, one JSON object a line as in /v1/score, - is stdin "
        "[default the model's reference samples]",
    )
    parser.add_argument(
        "--max-flip-rate",
        type=float,
        metavar="SHARE",
        help="int8: of the pairs of responses, that may change their order against float32 "
        f"[default {MAX_FLIP_RATE:g}]",
    )
    parser.add_argument(
        "--max-reward-error",
        type=float,
        metavar="REWARD",
        help=f"int8: how far a reward may be from float32 [default {MAX_REWARD_ERROR:g}]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
