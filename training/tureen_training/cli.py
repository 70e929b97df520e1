"""`tureen-train STAGE [--config FILE] [--field value …]`: one stage, one frozen dataclass, one main."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tureen.errors import MissingExtra, TureenError, nearest
from tureen.model.schema import decode
from tureen.usage import UsageError
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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    stage, *options = arguments
    try:
        if stage not in STAGES:
            raise UsageError(f"unknown stage {stage!r}{nearest(stage, STAGES)}")
        if stage == "demo":
            name, *options = options or [""]
            if name not in DEMOS:
                raise UsageError(f"unknown demo {name!r}{nearest(name, DEMOS)}")
            stage = f"demo.{name}"
        module = importlib.import_module(f"tureen_training.{stage.replace('-', '_')}")
        if options and options[0] in ("-h", "--help"):
            print(describe(module.Config))
            return 0
        module.main(configuration(module.Config, options))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "tureen", "tureen_training"):
            raise
        print(MissingExtra(f"tureen-train {stage}", "training"), file=sys.stderr)
        return 2
    except (ValueError, OSError, TureenError, OracleUnavailable, SoupSwapped) as error:
        print(f"tureen-train {stage}: {error}", file=sys.stderr)
        return 2
    return 0


def configuration(kind: type[Any], options: Sequence[str]) -> Any:
    """The config of a stage: defaults, then the file of `--config` (YAML or JSON), then `--field value`.

    A value is read as YAML, so `--epochs 3` is a number and `--mix '{feedback: 1}'` a mapping; a field whose
    type is text takes it as it stands, one whose type is float any spelling of a number (3e-4 is text in
    YAML 1.1).

    Raises:
        UsageError: an option without a value, or an unknown one (the message names the nearest).
        SchemaError: a missing field or a wrong type, with its path.
    """
    data: dict[str, Any] = {}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    flags = list(zip(options[::2], options[1::2], strict=False))
    if len(options) % 2:
        raise UsageError(f"{options[-1]!r} has no value; options come as --field value")
    for flag, value in flags:
        if flag == "--config":
            data = {**_read(Path(value)), **data}
    for flag, value in flags:
        name = flag.removeprefix("--").replace("-", "_")
        if name == "config":
            continue
        if not flag.startswith("--") or name not in fields:
            raise UsageError(f"unknown option {flag!r}{nearest(name, [*fields, 'config'])}")
        data[name] = value if hints[name] is str else _value(value)
    for name, value in data.items():
        if hints.get(name) is float and isinstance(value, str):
            data[name] = _number(value)
    return decode(kind, data)


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
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold a mapping of fields, got {type(data).__name__}")
    return data


def usage() -> str:
    lines = "\n".join(f"  {stage:13s}{text}" for stage, text in STAGES.items())
    return f"{__doc__}\n\nStages:\n{lines}\n\n`tureen-train STAGE --help` lists the fields."


def describe(kind: type[Any]) -> str:
    """The docstring of a config, then each field with its default."""
    lines = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = "required"
        elif not isinstance(default, str):  # as an option takes it
            default = json.dumps(default, default=dataclasses.asdict)
        lines.append(f"  --{field.name.replace('_', '-'):22s}{default}")
    parts = [base.__doc__ for base in kind.__mro__ if dataclasses.is_dataclass(base)]
    return "\n".join([*(part or "" for part in parts), "Fields:", *lines])


if __name__ == "__main__":
    raise SystemExit(main())
