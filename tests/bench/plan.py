"""What one run measures, with what, and how much of it: every part gets this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import get_json
from bench.variants import Variant
from bench.workload import Workload
from rich.console import Console
from server_process import Server, serving


@dataclass(frozen=True)
class Plan:
    """samples: of a round of the model. rounds: interleaved. stub_samples: of a round of the stub.

    default, variants, left_out, exports: see `variants.Variants`.
    """

    default: Variant
    variants: tuple[Variant, ...]
    left_out: dict[str, str]
    exports: dict[str, Any]
    workload: Workload
    scratch: Path
    samples: int
    stub_samples: int
    rounds: int
    concurrency: int
    largest: int
    peers: bool
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def say(self, text: str) -> None:
        self.console.print(text, style="dim", soft_wrap=True)

    def say_round(self, part: str, number: int, latest: dict[str, float], unit: str) -> None:
        shown = ", ".join(f"{name} {value:.1f}" for name, value in latest.items())
        self.say(f"{part}, round {number + 1} of {self.rounds}: {shown} {unit}")

    @contextmanager
    def serving(self, variant: Variant, *flags: str) -> Iterator[Server]:
        """This server; soups that somebody made live on this machine have no part in it."""
        state = ("--state-dir", str(self.scratch / "state"))
        with serving(variant.model, *variant.flags, *state, *flags, timeout_s=300) as server:
            yield server

    def turns(self, number: int, names: list[str]) -> list[str]:
        """The order of a round: each begins once, so that none always runs after the same other."""
        shift = number % len(names)
        return names[shift:] + names[:shift]


def described(server: Server) -> dict[str, Any]:
    """What is served, as far as figures depend on it."""
    model = get_json(f"{server.url}/v1/models")["models"][0]
    kept = ("id", "fingerprint", "soup", "backend", "dtype", "device", "members", "limits")
    return {name: model[name] for name in kept}


@dataclass
class Part:
    """What a part found. rows: of its table. details: for the JSON."""

    ratios: dict[str, float | None]
    rows: list[dict[str, Any]]
    details: dict[str, Any]
