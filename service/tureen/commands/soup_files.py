"""`tureen soup inspect|make|diff`: soups that lie on this machine.

torch is imported by what works on weights, once the arguments are known to be sound.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from rich.console import Console
from rich.table import Table

from tureen.commands.output import print_json
from tureen.model.directory import find_model
from tureen.model.manifest import Manifest, Method, MethodName, check_coefficients
from tureen.usage import Parser, UsageError

MODEL_HELP = "a directory or the name of a model"
TIES_DENSITY: Final = 0.2
"""What the paper keeps."""


def inspect(argv: Sequence[str]) -> None:
    parser = Parser(prog="tureen soup inspect", description="What a soup is made of.")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.read(argv)
    model = find_model(arguments.model)
    from tureen.model import soup

    found = soup.inspect(model)
    if arguments.json:
        print_json(found)
        return
    console = Console()
    base = found["base"]
    console.print(f"[bold]{found['model_id']}[/]  {found['soup']}  {found['fingerprint']}")
    method = found["method"]
    if method["name"] != "linear":
        console.print(
            f"method     {method['name']}, scale {method['scale']:g}, density {method['density']:g}"
        )
    console.print(f"base       {base['repo'] if base else 'none: full weights'}")
    console.print(f"calibrated on  {found['calibration_set'] or 'nothing: not fitted'}")
    console.print(f"data       {', '.join(found['data_licences']) or 'not stated'}")
    heads = Table("head", "granularity", "weight", "mean", "std", "windows combine by")
    for head in found["heads"]:
        calibration = head["calibration"]
        heads.add_row(
            head["name"],
            str(head["granularity"]),
            f"{head['weight']:g}",
            f"{calibration['mean']:.4f}",
            f"{calibration['std']:.4f}",
            str(head["combine"]),
        )
    console.print(heads)
    ingredients = Table("ingredient", "coefficient", "norm", "MB", "sha256", "lineage")
    for one in found["ingredients"]:
        ingredients.add_row(
            one["name"],
            f"{one['coefficient']:.4f}",
            f"{one['norm']:.4g}",
            f"{one['bytes'] / 1e6:.1f}",
            one["sha256"].removeprefix("sha256:")[:12],
            ", ".join(f"{key}={value}" for key, value in one["lineage"].items()),
        )
    console.print(ingredients)


def make(argv: Sequence[str]) -> None:
    parser = Parser(
        prog="tureen soup make",
        description="Average the weights of checkpoints that share a pretrained ancestor. The "
        "calibration becomes the mean of theirs: fit it anew on data before you trust rewards.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument(
        "--coefficient",
        type=float,
        action="append",
        metavar="W",
        help="one for each MODEL, in their order, adding up to 1; left out, all count the same",
    )
    parser.add_argument(
        "--method",
        choices=get_args(MethodName),
        default="linear",
        help="linear average of the weights; or of their differences to the base: task_arithmetic "
        "scales the average, ties averages the large ones that agree in sign (default: linear)",
    )
    parser.add_argument(
        "--scale",
        type=float,
        metavar="X",
        help="of task_arithmetic and ties: factor of the combined differences (default: 1)",
    )
    parser.add_argument(
        "--density",
        type=float,
        metavar="SHARE",
        help="of ties: the share of a tensor's entries that is kept (default: 0.2)",
    )
    parser.add_argument("--recipe", help="how they were chosen; a word that is stored")
    parser.add_argument(
        "--force",
        action="store_true",
        help="average although no shared ancestor is on record; nothing else is forced",
    )
    arguments = parser.read(argv)
    weighed = "weighted" if arguments.coefficient else "uniform"
    if arguments.method != "linear":
        weighed = f"{arguments.method}-{weighed}"
    density = TIES_DENSITY if arguments.method == "ties" else 1.0
    try:
        method = Method(
            name=arguments.method,
            scale=1.0 if arguments.scale is None else arguments.scale,
            density=density if arguments.density is None else arguments.density,
        )
        _check(arguments.models, arguments.coefficient)
        models = [find_model(model) for model in arguments.models]
        from tureen.model import soup

        made = soup.make_soup(
            models,
            arguments.coefficient,
            arguments.out,
            arguments.recipe or weighed,
            force=arguments.force,
            method=method,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    Console().print(f"[bold]{made.soup}[/] of {len(made.ingredients)} in {arguments.out}")
    _warn_of_twins(made)


def _check(models: Sequence[str], coefficients: Sequence[float] | None) -> None:
    if coefficients is None:
        return
    if len(coefficients) != len(models):
        raise UsageError(
            f"{len(models)} models and {len(coefficients)} of --coefficient; give one for each, in "
            "their order, or none"
        )
    check_coefficients(coefficients)


def _warn_of_twins(made: Manifest) -> None:
    """Equal members are allowed, as a control: such a soup is the checkpoint, without a spread."""
    known: dict[str, str] = {}
    for one in made.ingredients:
        first = known.setdefault(one.sha256, one.name)
        if first != one.name:
            print(  # noqa: T201 - the command's own word
                f"tureen: warning: {one.name} is the same checkpoint as {first} (sha256 "
                f"{one.sha256.removeprefix('sha256:')[:12]}): members that agree by being one make the uncertainty too "
                "small; give each checkpoint once, and its weight by --coefficient",
                file=sys.stderr,
            )


def diff(argv: Sequence[str]) -> None:
    parser = Parser(prog="tureen soup diff", description="What two models differ in.")
    parser.add_argument("one", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("other", metavar="OTHER", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.read(argv)
    models = find_model(arguments.one), find_model(arguments.other)
    from tureen.model import soup

    found = soup.diff(*models)
    if arguments.json:
        print_json(found)
        return
    console = Console()
    if not any(found.values()):
        console.print("no difference")
        return
    fields = Table("manifest", arguments.one, arguments.other)
    for name, (one, other) in found["manifest"].items():
        fields.add_row(name, _short(one), _short(other))
    console.print(fields)
    layers = Table("layer", "L2 distance")
    for name, distance in found["layers"].items():
        layers.add_row(name, f"{distance:.6g}")
    console.print(layers)


def _short(value: Any, width: int = 60) -> str:
    text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
