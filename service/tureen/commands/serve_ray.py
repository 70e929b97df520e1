"""`tureen serve-ray`: replicas of the engine and doors before them, on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from tureen import config
from tureen.ray.config import RayConfig


def main(argv: Sequence[str]) -> int:
    parser = config.parser(
        RayConfig, "tureen serve-ray", "Serve a reward model by replicas on a Ray cluster."
    )
    settings = config.made_of(RayConfig, vars(parser.read(argv)))
    from tureen.ray import server  # after --help, and after what is wrong with the settings

    return server.run(settings)
