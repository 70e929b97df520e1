"""A radar plot: one axis a skill, one polygon a system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tureen_training import plots

LEGEND_CHARACTERS = 80
"""Of a line of the legend, of which each system takes its name and its line."""


def draw_radar(
    systems: Mapping[str, Mapping[str, float]], path: Path, scale: tuple[float, float] | None
) -> None:
    """Nothing with fewer than three axes.

    Args:
        systems: system -> axis -> value; an axis that a system has no value for is a gap in its polygon.
        scale: ends of every axis; None takes those of the values.
    """
    axes_names = list(dict.fromkeys(name for own in systems.values() for name in own))
    if len(axes_names) < 3:
        return
    figure, axes = plots.radar()
    angles = np.linspace(0, 2 * np.pi, len(axes_names), endpoint=False)
    for system, own in systems.items():
        values = np.array([own.get(name, np.nan) for name in axes_names])
        axes.plot(np.append(angles, angles[0]), np.append(values, values[0]), label=system)
    axes.set_xticks(angles, axes_names)
    if scale is not None:
        axes.set_ylim(*scale)
    if len(systems) > 1:
        columns = max(1, LEGEND_CHARACTERS // (max(map(len, systems)) + 8))
        figure.legend(loc="outside lower center", ncols=min(4, columns))
    plots.save(figure, path)
