"""`tureen serve`: the settings from flags, environment and file, then the server."""

from __future__ import annotations

from collections.abc import Sequence

from tureen import config
from tureen.transports import server


def main(argv: Sequence[str]) -> int:
    settings = config.load(argv)
    if not settings.front_ends:
        return server.run(settings)
    from tureen.frontends.supervisor import supervise

    return server.in_loop(settings, supervise(settings))
