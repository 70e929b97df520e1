"""`tureen doctor`: does a model score the same alone, in a crowd, in any order, twice, in any backend?

Whatever differs here would differ in a training run, as noise in the reward that nobody can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tureen.commands.checks import Check, check_text, examine, same_in_both_backends
from tureen.commands.in_process import add_model_options, load
from tureen.commands.output import print_json
from tureen.commands.reference_checks import (
    check_dtype,
    check_files,
    check_int8,
    check_pad_is_eos,
    check_padding,
    check_tokens,
    same_as_transformers,
)
from tureen.engine.served import ServedModel
from tureen.usage import Parser

COLOURS = {"ok": "green", "FAIL": "bold red", "note": "yellow"}


def main(argv: Sequence[str]) -> int:
    arguments = _parser().read(argv)
    model = load(arguments)
    backend = model.backend.info
    title = (
        f"{model.model_id}, {model.manifest.soup}, {model.fingerprint}: "
        f"{backend.name} {backend.dtype} on {backend.device}"
    )
    checks = asyncio.run(_examine(arguments.model, model))
    failed = any(check.status == "FAIL" for check in checks)
    if arguments.json:
        print_json({"model": title, "ok": not failed, "checks": checks})
    else:
        _print(title, checks)
    return int(failed)


async def _examine(name: str, model: ServedModel) -> list[Check]:
    before = [
        *check_text(model),
        check_tokens(model),
        *check_files(name, model),
        check_pad_is_eos(model),
        check_padding(model),
        same_as_transformers(name, model),
    ]
    within = await examine(model)  # closes the backend at its end
    onnx = await same_in_both_backends(name)
    return [*before, *within, check_dtype(name, model), onnx, check_int8(name)]


def _parser() -> Parser:
    parser = Parser(
        prog="tureen doctor",
        description="Check that a model scores the same alone, in a crowd, in any order, twice, "
        "in torch, in ONNX and in plain transformers, and that text reaches it unharmed. Exit "
        "status 1 when it does not.",
    )
    parser.add_argument("model", metavar="MODEL", help="a directory, a name, or a Hugging Face id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_model_options(parser)
    return parser


def _print(title: str, checks: Sequence[Check]) -> None:
    console = Console(highlight=False)
    console.print(title, markup=False, soft_wrap=True)
    table = Table("check", "", "found")
    for check in checks:
        colour = COLOURS[check.status]
        table.add_row(check.name, f"[{colour}]{check.status}[/]", check.found)
    console.print(table)
