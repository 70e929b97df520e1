"""A run that is killed, or whose disk is full, loses nothing but the steps since its last state."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pico_training
import pytest
import torch
from stopping import Killed, Stopping
from torch import nn

from tureen.model.checkpoint import load
from tureen_training import resume, reward
from tureen_training.runlog import RunLog

EVERYTHING = {
    "epochs": 2,
    "state_steps": 4,
    "dropout": 0.1,
    "trained_layers": 2,
    "lora_rank": 2,
    "train_windows": "one",
    "rater_reliability": True,
}


class Trained:
    """Two parameters and an optimiser that has made `steps`."""

    def __init__(self, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters = {
            name: nn.Parameter(torch.randn(3, 2, generator=generator)) for name in ("a", "b")
        }
        self.optimiser = torch.optim.AdamW(self.parameters.values(), lr=0.1)
        self.step(steps)

    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.optimiser.zero_grad()
            sum((p**4).sum() for p in self.parameters.values()).backward()  # pyright: ignore
            self.optimiser.step()

    def values(self) -> list[float]:
        return torch.cat([p.detach().flatten() for p in self.parameters.values()]).tolist()


@contextmanager
def small_disk(limit_bytes: int):
    """No file may grow beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_gives_back_bits(tmp_path: Path):
    through, first, second = Trained(6), Trained(4), Trained(0)
    record = {"step": 4, "sums": {"a": [0.1 + 0.2, 3]}}
    resume.save_state(tmp_path / "state", first.parameters, first.optimiser, record)
    assert resume.read_record(tmp_path / "state") == record
    resume.load_state(tmp_path / "state", second.parameters, second.optimiser)
    second.step(2)
    assert second.values() == through.values()


def test_there_is_no_state_before_the_first_and_after_the_last(tmp_path: Path):
    state = tmp_path / "state"
    assert resume.read_record(state) is None
    run = Trained(1)
    resume.save_state(state, run.parameters, run.optimiser, {})
    resume.forget(state)
    assert resume.read_record(state) is None
    assert list(tmp_path.iterdir()) == []
    resume.forget(state)


def test_the_state_of_another_model_is_refused(tmp_path: Path):
    run = Trained(1)
    resume.save_state(tmp_path / "state", run.parameters, run.optimiser, {})
    other = {"a": run.parameters["a"], "c": run.parameters["b"]}
    with pytest.raises(ValueError, match=r"state of another model: \['b', 'c'\]"):
        resume.load_state(tmp_path / "state", other, run.optimiser)


def test_a_full_disk_leaves_the_state_before(tmp_path: Path):
    run = Trained(1)
    resume.save_state(tmp_path / "state", run.parameters, run.optimiser, {"step": 1})
    before = run.values()
    run.step(1)
    with small_disk(100), pytest.raises(OSError, match="cannot be written"):
        resume.save_state(tmp_path / "state", run.parameters, run.optimiser, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]  # nothing half-written
    assert resume.read_record(tmp_path / "state") == {"step": 1}
    resume.load_state(tmp_path / "state", run.parameters, run.optimiser)
    assert run.values() == before


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """With a run that nothing disturbed."""
    root = pico_training.directory(tmp_path_factory.mktemp("resume"))
    reward.main(pico_training.config(root, "whole", **EVERYTHING))
    return root


def same(root: Path, name: str) -> None:
    """The run left what the undisturbed one left, to the bit, and no more."""
    assert pico_training.events(root, name) == pico_training.events(root, "whole")
    first, second = load(root / "whole").model.state_dict(), load(root / name).model.state_dict()
    for tensor in first:
        assert torch.equal(first[tensor], second[tensor]), tensor
    folder = root / f"{name}.run"
    assert sorted(p.name for p in folder.iterdir()) == ["curves.png", "metrics.jsonl"]
    assert not [path.name for path in root.iterdir() if path.name.startswith(f".{name}.")]


@pytest.mark.slow
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(root: Path, monkeypatch):
    """Stopped before every fifth thing it does to its model, its log or the disk, until it gets through."""
    config = pico_training.config(root, "stopped", **EVERYTHING)
    stopping = Stopping(every=5, most=6)
    monkeypatch.setattr(reward, "update", stopping(reward.update))
    monkeypatch.setattr(resume, "save_file", stopping(resume.save_file))
    monkeypatch.setattr(RunLog, "write", stopping(RunLog.write))
    monkeypatch.setattr(reward, "save_ingredient", stopping(reward.save_ingredient))
    while True:
        try:
            reward.main(config)
            break
        except Killed:
            continue
    assert stopping.stops == 6
    same(root, "stopped")


@pytest.mark.slow
def test_a_run_killed_while_it_saves_goes_on_to_the_same_bits(root: Path):
    """SIGKILL when the second state is half on the disk: nothing of Python's runs after it."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import pico_training\n"
        "from tureen_training import resume, reward\n"
        "write, calls = resume.save_file, []\n"
        "def killed(tensors, path):\n"
        "    write(tensors, path)\n"
        "    calls.append(path)\n"
        "    if len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "resume.save_file = killed\n"
        f"reward.main(pico_training.config(Path(sys.argv[1]), 'killed', **{EVERYTHING!r}))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        env={**os.environ, "PYTHONPATH": str(Path(pico_training.__file__).parent)},
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    state = resume.read_record(root / "killed.run" / "state")
    assert state is not None
    assert state["step"] == EVERYTHING["state_steps"]
    left = [path for path in (root / "killed.run").iterdir() if path.name.startswith(".state.")]
    assert len(left) == 1  # what it was writing; nobody reads it
    reward.main(pico_training.config(root, "killed", **EVERYTHING))
    same(root, "killed")


@pytest.mark.slow
def test_a_disk_that_fills_up_at_the_end_keeps_the_ingredient_before(root: Path):
    config = pico_training.config(root, "again")
    reward.main(config)
    before = load(root / "again").fingerprint
    changed = pico_training.config(root, "again", seed=1)
    room = (root / "again" / "ingredients" / "checkpoint.safetensors").stat().st_size - 1
    with small_disk(room), pytest.raises(OSError, match="cannot be written"):
        reward.main(changed)
    assert load(root / "again").fingerprint == before
    reward.main(changed)
    assert load(root / "again").fingerprint != before


@pytest.mark.slow
def test_an_unfinished_run_is_not_gone_on_with_otherwise(root: Path, monkeypatch):
    config = pico_training.config(root, "other")
    monkeypatch.setattr(reward, "save_ingredient", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        reward.main(config)
    with pytest.raises(ValueError, match="unfinished run with other dropout, seed; give the same"):
        reward.main(pico_training.config(root, "other", seed=1, dropout=0.1))
    with pytest.raises(Killed):  # these may change
        reward.main(pico_training.config(root, "other", state_steps=3, threads=0))
