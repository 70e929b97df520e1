"""What a run leaves behind: metrics.jsonl, one line an event; curves; progress on the terminal; trackers."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from accelerate import Accelerator

ItemT = TypeVar("ItemT")
ReportTo = Literal["none", "tensorboard", "trackio"]
LINE_EVERY_S = 30.0


def progress(
    items: Iterable[ItemT],
    what: str,
    total: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ItemT]:
    """A bar on a terminal; in a log file, where a bar is noise, a line now and then. Of the first process alone."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True)
    else:
        yield from _in_lines(items, what, total, clock)


def _in_lines(
    items: Iterable[ItemT], what: str, total: int | None, clock: Callable[[], float]
) -> Iterator[ItemT]:
    """How far it is, at most every LINE_EVERY_S; of work that is shorter nothing."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    started_s = said_s = clock()
    for done, item in enumerate(items):
        now_s = clock()
        if now_s - said_s >= LINE_EVERY_S:
            said_s, elapsed_s = now_s, now_s - started_s
            line = f"{what}: {done}{'' if total is None else f'/{total}'}"
            line += f", {tqdm.format_interval(elapsed_s)} elapsed"
            if total is not None and done:
                remaining_s = elapsed_s * (total - done) / done
                line += f", {tqdm.format_interval(remaining_s)} remaining"
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - where the bar would be
        yield item


def accelerator_for(report_to: ReportTo, directory: Path) -> Accelerator:
    """One CPU, one GPU or, under `accelerate launch`, several of them.

    Raises:
        ValueError: the tracker's package is missing, or fp16 is asked for.
    """
    from accelerate import Accelerator

    if report_to == "none":
        accelerator = Accelerator()
    elif importlib.util.find_spec(report_to) is None:
        raise ValueError(
            f"report_to is {report_to!r}, which is not installed: pip install {report_to}, or say none; "
            f"{directory / 'metrics.jsonl'} holds the same figures"
        )
    else:
        accelerator = Accelerator(log_with=report_to, project_dir=directory)
    if accelerator.mixed_precision == "fp16":
        raise ValueError(
            "mixed_precision is fp16, whose loss scaling is not provided for; use bf16 or no"
        )
    return accelerator


class RunLog:
    """Appends to `metrics.jsonl` of a run's directory and says the same on stderr and to the tracker.

    Of several processes the first one writes.
    """

    def __init__(
        self, path: Path, accelerator: Accelerator | None = None, keep_bytes: int = 0
    ) -> None:
        """keep_bytes: how much of what is there was written before the state that the run goes on from."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._accelerator = accelerator
        self._start = time.monotonic()
        if self._writes:
            with path.open("ab") as file:
                file.truncate(min(keep_bytes, file.tell()))

    @property
    def _writes(self) -> bool:
        return self._accelerator is None or self._accelerator.is_main_process

    def sync(self) -> int:
        """Flushes what was written to the disk; how many bytes that is."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def write(self, event: str, *, step: int = 0, **figures: object) -> None:
        """One event. step: of training, for trackers."""
        if not self._writes:
            return
        elapsed = round(time.monotonic() - self._start, 1)
        line = json.dumps(
            {"event": event, "elapsed_s": elapsed, "step": step, **figures}, allow_nan=False
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if event != "step" or not sys.stderr.isatty():  # there the bar says it
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - the console line of a run
        if self._accelerator is not None:
            self._accelerator.log(dict(numbers(event, figures)), step=step)

    def records(self) -> list[dict[str, Any]]:
        """All events so far."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def numbers(prefix: str, figures: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """The numbers of nested figures, named by their path: ("step/loss/preference", 0.5)."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from numbers(f"{prefix}/{name}", value)
        elif isinstance(value, (int, float)):
            yield f"{prefix}/{name}", value


def draw(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """The curves of a run as PNG: the loss of each head by step, the figures on the validation part by epoch.

    Args:
        records: events "step" (with `loss`) and "epoch" (with `validation`), as `RunLog` wrote them.
    """
    from tureen_training import plots

    figure, (losses, figures) = plots.panels(2)
    losses.set(xlabel="step", ylabel="loss", title="training")
    figures.set(xlabel="step", ylabel="figure", title="validation, after each epoch")
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for record in records:
        part = {"step": "loss", "epoch": "validation"}.get(record["event"])
        for name, value in record.get(part, {}).items() if part else ():
            curves.setdefault((record["event"], name), []).append((record["step"], value))
    for (event, name), points in curves.items():
        axes, style = (losses, "-") if event == "step" else (figures, "o-")
        axes.plot(*zip(*points, strict=True), style, label=name)
    plots.save(figure, path)
