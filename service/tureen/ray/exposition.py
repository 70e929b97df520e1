"""The metrics of several processes in one text, each sample labelled with whose it is."""

from __future__ import annotations

from collections.abc import Iterable

LABEL = "replica"


def joined(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """Prometheus' text format allows a metric's help and type once, before all of its samples.

    Args:
        parts: whose, and their metrics in that format.
    """
    families: dict[str, list[str]] = {}  # by the line that says the type
    help_of: dict[str, str] = {}
    for replica, text in parts:
        help_, samples = "", []
        for line in text.decode().splitlines():
            if line.startswith("# HELP "):
                help_ = line
            elif line.startswith("# TYPE "):
                help_of.setdefault(line, help_)
                samples = families.setdefault(line, [])
            elif line:
                samples.append(_labelled(line, replica))
    lines = [
        line
        for type_, samples in families.items()
        if samples
        for line in (help_of[type_], type_, *samples)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _labelled(sample: str, replica: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{{LABEL}="{replica}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{{LABEL}="{replica}"}} {value}'
