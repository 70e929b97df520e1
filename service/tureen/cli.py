"""`tureen`: each command is a module of `tureen.commands`, imported when it is called.

So `tureen --help` is fast and works where only the client is installed. A mistake of the caller is
one line on stderr and exit status 2; a check that fails is exit status 1.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from tureen._version import __version__
from tureen.errors import MissingExtra, TureenError, nearest
from tureen.usage import UsageError, told

COMMANDS = {
    "serve": "serve a model over HTTP and gRPC",
    "serve-ray": "the same over many machines or GPUs: replicas and doors on a Ray cluster",
    "score": "score responses here, without a server",
    "doctor": "check that a model scores the same alone, in a crowd, in any order and backend",
    "export": "write the ONNX form of a model and prove that it agrees",
    "soup": "inspect, make and compare soups; change those of a running server",
    "keys": "draw keys for a server, and hash them for its key file",
}
EXTRA_OF = {
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "onnx",
    "torch": "torch",
    "ray": "ray",
}
"""The extra that brings a package, where it is not [server]."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(arguments[0] if arguments else "--help", arguments[1:])
        finally:
            sys.stdout.flush()  # where a reader that has left can still be met
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (UsageError, TureenError, MissingExtra, OSError) as error:
        print(f"tureen: {told(error)}", file=sys.stderr)
        return 2


def _run(name: str, arguments: list[str]) -> int:
    if name in {"-h", "--help", "help"}:
        print(_help())
        return 0
    if name == "--version":
        print(f"tureen {__version__}")
        return 0
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is not a command{nearest(name, COMMANDS)}")
    try:
        return importlib.import_module(f"tureen.commands.{name.replace('-', '_')}").main(arguments)
    except UsageError:
        raise
    except ValueError as error:
        from tureen.model.manifest import ModelError  # what raised it has imported it already

        if isinstance(error, ModelError):
            raise UsageError(str(error)) from error
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "tureen":
            raise
        raise MissingExtra(f"tureen {name}", EXTRA_OF.get(package, "server,torch")) from error


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tureen COMMAND [...]",
            "",
            "Serves reward-model soups. Commands:",
            *lines,
            "",
            "`tureen COMMAND --help` explains one. Start with: tureen serve",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
