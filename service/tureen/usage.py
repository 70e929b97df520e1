"""Command lines that explain themselves in one line when they were written wrongly."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from tureen.errors import nearest


class UsageError(ValueError):
    """One line for whoever typed the command: what was given, what is allowed, what to do."""


def device_name(text: str) -> str:
    """A device as any backend may know it, whether or not it is here. Raises ValueError."""
    if re.fullmatch(r"auto|cpu|(cuda|tensorrt)(:\d+)?", text) is None:
        raise ValueError("known are auto, cpu, cuda, cuda:N, tensorrt and tensorrt:N")
    return text


def told(error: BaseException) -> str:
    """An error in one line, of a file with its name first and without a number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


class Parser(argparse.ArgumentParser):
    """argparse that raises `UsageError` instead of printing and exiting, and offers near names."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments; raises UsageError for what is not one."""
        given, unknown = self.parse_known_args(list(argv))
        if not unknown:
            return given
        name = unknown[0].split("=")[0]
        if not name.startswith("-"):
            raise UsageError(f"{self.prog} does not take {name!r}. See {self.prog} --help.")
        if name == "--model" and any(action.dest == "model" for action in self._actions):
            raise UsageError(
                f"{self.prog} has no option --model. The model is given without a flag."
            )
        options = [option for option in self._option_string_actions if option.startswith("--")]
        raise UsageError(f"{self.prog} has no option {name}{nearest(name, options)}")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See {self.prog} --help.")
