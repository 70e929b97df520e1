"""What the commands print with."""

from __future__ import annotations

import sys

import orjson


def print_json(content: object) -> None:
    """One JSON document on stdout, for programs; the tables are for people."""
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
