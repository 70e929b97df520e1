"""`tureen serve`: the settings from flags, environment and file, then the server."""

from __future__ import annotations

from collections.abc import Sequence

from tureen import config
from tureen.transports import server


def main(argv: Sequence[str]) -> int:
    return server.run(config.load(argv))
