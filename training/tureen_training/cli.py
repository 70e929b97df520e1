"""`tureen-train STAGE [--config FILE] [--field value …]`: one stage, one frozen dataclass, one main."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from tureen._version import __version__
from tureen.errors import MissingExtra, TureenError, nearest
from tureen.model.schema import decode
from tureen.usage import UsageError, told
from tureen_training.demo import DEMOS
from tureen_training.oracle import OracleUnavailable, SoupSwapped

STAGES = {
    "sft": "fine-tune a policy on demonstrations, or train a small one on text, through TRL",
    "reward": "train one ingredient: a reward model with four heads, from human feedback",
    "ppo": "train a policy against a running service, by PPO with a value network",
    "rrhf": "train a policy on candidates of several policies, ranked by a running service",
    "best-of-n": "the best of n responses in the eyes of a running service, and what n is worth",
    "soup": "average ingredients, calibrate, measure, write the model card",
    "evaluate": "figures with intervals and baselines; the last line is one JSON object",
    "report": "one page of evaluated runs: tables, radar, intervals, baselines",
    "agreement": "how far the raters of a file agree, how reliable each is, what that leaves to reach",
    "audit": "list the comparisons of a file that models think are the wrong way round",
    "ai-feedback": "have responses rated or compared by a language model, by a rubric",
    "demo": "a claim of the literature on a toy task: demo NAME, known: " + ", ".join(DEMOS),
}
HELP = ("-h", "--help")
DEFAULT_SHOWN = 100  # characters of a default that help shows


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in HELP:
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"tureen-train {__version__}")
        return 0
    stage, *options = arguments
    try:
        if stage not in STAGES:
            raise UsageError(f"unknown stage {stage!r}{nearest(stage, STAGES)}")
        if stage == "demo":
            name, *options = options or HELP
            if name in HELP:
                print(f"{STAGES[stage]}\n\n`tureen-train demo NAME --help` lists the fields.")
                return 0
            if name not in DEMOS:
                raise UsageError(f"unknown demo {name!r}{nearest(name, DEMOS)}")
            stage = f"demo.{name}"
        module = importlib.import_module(f"tureen_training.{stage.replace('-', '_')}")
        if any(option in HELP for option in options):
            more = [module.more_help()] if hasattr(module, "more_help") else []
            print("\n\n".join([describe(module.Config), *more]))
            return 0
        module.main(configuration(module.Config, options))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "tureen", "tureen_training"):
            raise
        print(MissingExtra(f"tureen-train {stage}", "training"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"tureen-train {stage}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, TureenError, OracleUnavailable, SoupSwapped) as error:
        print(f"tureen-train {stage}: {told(error)}", file=sys.stderr)
        return 2
    return 0


def configuration(kind: type[Any], options: Sequence[str]) -> Any:
    """The config of a stage: defaults, then the file of `--config` (YAML or JSON), then `--field value`.

    A value is read as YAML, so `--epochs 3` is a number and `--mix '{feedback: 1}'` a mapping; a field whose
    type is text takes it as it stands, one whose type is float any spelling of a number (3e-4 is text in
    YAML 1.1), and a list of texts a single one. `--field=value` is the same.

    Raises:
        UsageError: an option without a value, or an unknown one (the message names the nearest).
        SchemaError: a missing field or a wrong type, with its path.
    """
    data: dict[str, Any] = {}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    known = [*fields, "config"]
    hints = typing.get_type_hints(kind)
    flags = list(_flags(options))
    for flag, value in flags:
        if flag == "--config":
            data = {**_read(Path(value)), **data}
    for flag, value in flags:
        name = flag.removeprefix("--").replace("-", "_")
        if name == "config":
            continue
        if not flag.startswith("--") or name not in fields:
            raise UsageError(f"unknown option {flag!r}{nearest(flag, map(option, known))}")
        data[name] = value if hints[name] is str else _value(value)
        if hints[name] == tuple[str, ...] and isinstance(data[name], str):
            data[name] = [data[name]]
    for name, value in data.items():
        if hints.get(name) is float and isinstance(value, str):
            data[name] = _number(value)
    missing = [
        option(name) for name, field in fields.items() if name not in data and _required(field)
    ]
    if missing and data.keys() <= fields.keys():
        raise UsageError(f"{', '.join(missing)} must be given, here or in the file of --config")
    return decode(kind, data)


def _flags(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(--field, value) of `--field value` and of `--field=value`."""
    remaining = iter(options)
    for flag in remaining:
        name, separator, value = flag.partition("=")
        if flag.startswith("--") and separator:
            yield name, value
        elif (following := next(remaining, None)) is not None:
            yield flag, following
        else:
            raise UsageError(f"{flag!r} has no value; options come as --field value")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value(text: str) -> Any:
    import yaml  # an extra's package, wanted only once there is something to read

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{text!r} is not YAML: {error}") from None


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # `decode` says what is wrong with it


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold a mapping of fields, got {type(data).__name__}")
    return data


def usage() -> str:
    lines = "\n".join(f"  {stage:13s}{text}" for stage, text in STAGES.items())
    return (
        "usage: tureen-train STAGE [--config FILE] [--field value ...]\n\n"
        "Makes reward models and soups of them, measures them, and trains policies against a running "
        f"service.\n\nStages:\n{lines}\n\n`tureen-train STAGE --help` lists the fields."
    )


def describe(kind: type[Any]) -> str:
    """The docstring of a config, then each field with its default, of a long one the beginning, and what it may be
    instead."""
    fields = dataclasses.fields(kind)
    hints = typing.get_type_hints(kind)
    width = max(len(option(field.name)) for field in fields) + 2
    lines = []
    for field in fields:
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if _required(field):
            default = "required"
        elif not isinstance(default, str):  # as an option takes it
            default = json.dumps(default, default=dataclasses.asdict)
            if len(default) > DEFAULT_SHOWN:
                default = default[:DEFAULT_SHOWN] + " …"
        if typing.get_origin(hints[field.name]) is typing.Literal:
            default += f"  (or {', '.join(c for c in get_args(hints[field.name]) if c != default)})"
        lines.append(f"  {option(field.name):{width}s}{default}".rstrip())
    parts = [inspect.getdoc(base) for base in kind.__mro__ if dataclasses.is_dataclass(base)]
    return "\n\n".join([*(part or "" for part in parts), "\n".join(["Fields:", *lines])])


if __name__ == "__main__":
    raise SystemExit(main())
