"""Where a run stands, on disk: a killed run goes on as if nothing had happened.

A state is a directory: `state.safetensors` (trained parameters and the optimiser's moments) and `state.json` (what
else there is to know). It is written beside the previous one, flushed, and takes its place in one step; a crash or a
full disk leaves the previous state whole. Nothing random is stored: every random choice of a run is a function of
its seed and of the step it is made for.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tureen.model.files import replacing
from tureen_training.runlog import RunLog, accelerator_for

TENSORS, RECORD = "state.safetensors", "state.json"
NOT_OF_A_RUN = (
    "cache",
    "report_to",
    "state_steps",
    "threads",
    *("oracle", "api_key_env", "patience_s", "timeout_s", "on_swap"),  # where rewards come from
)
"""Options that may differ when a run goes on."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a stage, begun or to go on. out: what it makes; folder: `out`.run, what it leaves behind of itself.

    place: where its state is kept. state: the record to go on from; None where the run begins.
    """

    out: Path
    folder: Path
    place: Path
    accelerator: Accelerator
    state: dict[str, Any] | None
    log: RunLog


def opened(config: Any) -> Run:
    """The run that a stage's config describes, cleared of what a killed one left half done.

    Raises:
        ValueError: there is a state, of another configuration; the tracker is missing.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    folder = out.with_name(out.name + ".run")
    place = folder / "state"
    accelerator = accelerator_for(config.report_to, folder)
    accelerator.init_trackers(out.name)
    if accelerator.is_main_process:
        sweep(place)
        sweep(out)
    state = state_of(place, config)
    log = RunLog(folder / "metrics.jsonl", accelerator, state["log_bytes"] if state else 0)
    return Run(out, folder, place, accelerator, state, log)


def save_state(
    directory: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    record: Mapping[str, Any],
) -> None:
    """Write the state of a run, replacing the one before.

    Args:
        parameters: what trains, in the order of the optimiser's groups.
        record: anything JSON can hold; `load_state` gives it back.
    Raises:
        OSError: the disk is full; the state before is untouched.
    """
    tensors = {f"parameter.{name}": p.detach().cpu() for name, p in parameters.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": value.cpu() for key, value in moments.items()}
    try:
        with replacing(directory) as fresh:
            save_file({k: v.contiguous() for k, v in tensors.items()}, fresh / TENSORS)
            (fresh / RECORD).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    except SafetensorError as error:
        raise OSError(
            f"{directory} cannot be written: {error}; the one before is whole."
        ) from error


def read_record(directory: Path) -> dict[str, Any] | None:
    """The record of the state in `directory`; None where there is no state."""
    try:
        return json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def identity(config: Any) -> dict[str, Any]:
    """What makes a run this run, as JSON gives it back: the fields of its config but `NOT_OF_A_RUN`."""
    options = json.loads(json.dumps(dataclasses.asdict(config)))
    return {name: value for name, value in options.items() if name not in NOT_OF_A_RUN}


def state_of(directory: Path, config: Any) -> dict[str, Any] | None:
    """The record of the state to go on from; None where the run begins.

    Raises:
        ValueError: the state is of another configuration.
    """
    state = read_record(directory)
    if state is not None:
        same_run(directory, state["config"], identity(config))
    return state


def same_run(directory: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError: the state in `directory` is of another configuration."""
    changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    if changed:
        raise ValueError(
            f"{directory} is the state of an unfinished run with other {', '.join(changed)}; "
            "give the same configuration to go on, or delete it to start anew"
        )


def load_state(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    """Put parameters and moments back where `save_state` found them.

    Raises:
        ValueError: the state is of other parameters.
    """
    stored = load_file(directory / TENSORS)
    names = {name.removeprefix("parameter.") for name in stored if name.startswith("parameter.")}
    if names != set(parameters):
        other = sorted(names ^ set(parameters))
        raise ValueError(
            f"{directory} is the state of another model: {other[:3]} ({len(other)} in all) are on one side only; "
            "delete it to start anew."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[f"parameter.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, key = rest.partition(".")
            moments.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(
        {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def forget(directory: Path) -> None:
    """The run is over: the next one begins at the beginning."""
    (directory / RECORD).unlink(missing_ok=True)  # first: half a state is none
    shutil.rmtree(directory, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what a killed process left half-written beside `directory`; no other may be writing it."""
    for partial in directory.parent.glob(f".{glob.escape(directory.name)}.????????"):
        shutil.rmtree(partial, ignore_errors=True)
