"""What the commands print with."""

from __future__ import annotations

import sys

import orjson

from tureen.transports.json_body import dumps


def print_json(content: object) -> None:
    """One JSON document on stdout, for programs; the tables are for people."""
    indented = orjson.dumps(orjson.loads(dumps(content)), option=orjson.OPT_INDENT_2)
    sys.stdout.write(indented.decode() + "\n")
