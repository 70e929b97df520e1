"""One way to draw: figures without a display, in one style, saved as PNG.

    figure, axes = plots.figure("distance from the start", "reward")
    axes.plot(x, y, label="soup")
    plots.save(figure, out / "reward.png")

Nothing here touches matplotlib's global state: a figure belongs to whoever made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

STYLE: Final[dict[RcKeyType, Any]] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120.0,
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
}
SIZE_INCHES: Final = (5.0, 3.6)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style of every plot here; matplotlib's own settings come back at the end."""
    with rc_context(STYLE):
        yield


def figure(x_label: str, y_label: str, title: str = "") -> tuple[Figure, Axes]:
    """A figure with one labelled pair of axes."""
    made, (axes,) = panels(1)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    return made, axes


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` pairs of axes side by side."""
    width, height = SIZE_INCHES
    with style():
        made = Figure(figsize=(width * count, height))
        FigureCanvasAgg(made)
        return made, [made.add_subplot(1, count, place + 1) for place in range(count)]


def radar() -> tuple[Figure, Axes]:
    """A figure with one pair of polar axes, the first one upwards, clockwise."""
    with style():
        made = Figure(figsize=(6.0, 6.0))
        FigureCanvasAgg(made)
        axes = made.add_subplot(1, 1, 1, projection="polar")
        axes.set_theta_zero_location("N")  # pyright: ignore[reportAttributeAccessIssue] - of polar axes
        axes.set_theta_direction(-1)  # pyright: ignore[reportAttributeAccessIssue]
        return made, axes


def save(made: Figure, path: Path) -> Path:
    """Writes the figure as PNG; a legend is drawn where something has a label.

    Raises:
        ValueError: the name does not end in .png.
    """
    if path.suffix != ".png":
        raise ValueError(f"{path} is to hold a plot; plots are PNG: give a name that ends in .png")
    with style():
        for axes in made.axes if not made.legends else ():
            if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
                axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path)
    return path
