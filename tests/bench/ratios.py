"""The figures that a run is judged by, their targets, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TARGETS = {
    "served_over_ceiling": "at least 0.95",
    "served_over_control": "at least 1.25",
    "int8_over_control": "at least 1.6",
    "served_over_infinity": "at least 1.25",
    "stub_over_echo": "at least 0.6",
    "stream_over_http": "at least 2",
    "interactive_p99_over_calm": "at most 3, plus one batch",
    "members_over_soup": "at most 1.7",
    "added_latency_ms": "at most 3",
    "gpu_matmul_share": "at least 0.55",
    "gpu_shared_over_unshared": "at least 2.5",
    "gpu_served_over_ceiling": "at least 0.8",
}
"""Every key of `ratios`; a figure that was not measured is null."""


def joined(parts: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """All keys of `TARGETS`, null where no part measured them.

    Raises:
        KeyError: a part names a ratio that is not one of them.
    """
    found: dict[str, float | None] = dict.fromkeys(TARGETS)
    for part in parts:
        for name, value in part.items():
            if name not in found:
                raise KeyError(f"{name} is not among {', '.join(TARGETS)}")
            found[name] = None if value is None else round(value, 4)
    return found
