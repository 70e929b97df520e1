"""The loop in bad times, with processes of its own: killed, cut off, refused, held up. The run is the same to the bit:
nothing is invented, nothing is lost, the order is kept."""

from __future__ import annotations

import multiprocessing
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pico_ppo
import pico_rrhf
import pytest
import torch
from doors import open_doors
from engine_fakes import wait_until
from server_process import Server, serving
from toxic_proxy import toxic

from tureen_training import ppo, rrhf
from tureen_training.policies import load_policy

pytestmark = pytest.mark.slow

PPO: dict[str, Any] = {"steps": 6, "state_steps": 2, "chunks": 2, "patience_s": 120.0}
RRHF: dict[str, Any] = pico_rrhf.ONLINE | {"epochs": 6, "sources": ("policy",), "patience_s": 120.0}
STARTING_S = 300.0
"""How long a process may take to import torch and to get going, on a machine that is busy with other things."""
MODULES = ["pico_ppo", "pico_rrhf", "tureen_training.ppo", "tureen_training.rrhf"]
STAGES = {"ppo": (pico_ppo, ppo, PPO), "rrhf": (pico_rrhf, rrhf, RRHF)}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return pico_ppo.directory(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("stub") as running:
        yield running


@pytest.fixture(scope="module")
def expected(root: Path, server: Server) -> dict[str, list[dict[str, Any]]]:
    """What each stage logs in good times."""
    return {stage: finished(stage, root, f"good-{stage}", server.target) for stage in STAGES}


def config(stage: str, root: Path, name: str, address: str) -> Any:
    pico, _, options = STAGES[stage]
    return pico.config(root, name, oracle=address, **options)


def finished(stage: str, root: Path, name: str, address: str) -> list[dict[str, Any]]:
    STAGES[stage][1].main(config(stage, root, name, address))
    return STAGES[stage][0].events(root, name)


def same_policy(root: Path, *names: str) -> bool:
    first, second = (load_policy(root / name).model.state_dict() for name in names)
    return all(torch.equal(first[name], second[name]) for name in first)


def trainer(stage: str, root: Path, name: str, address: str) -> None:
    """In a process of its own."""
    torch.set_num_threads(1)
    finished(stage, root, name, address)


def started(*arguments: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    process = context.Process(target=trainer, args=arguments, daemon=True)
    process.start()
    return process


def log(root: Path, name: str) -> str:
    path = root / f"{name}.run" / "metrics.jsonl"
    return path.read_text() if path.is_file() else ""


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_trainer_goes_on_to_the_same_bits(root: Path, server: Server, expected, stage):
    """SIGKILL wherever it is once its log has grown by some random number of bytes, three times."""
    draw, name, kills = random.Random(stage), f"killed-{stage}", 0
    whole = len(log(root, f"good-{stage}"))
    while True:
        process = started(stage, root, name, server.target)
        if kills < 3:
            until = len(log(root, name)) + draw.randint(1, whole // 3)
            wait_until(
                lambda process=process, until=until: (
                    not process.is_alive() or len(log(root, name)) >= until
                ),
                "the log",
                patience_s=STARTING_S,
            )
            if process.is_alive():
                process.kill()
                kills += 1
        process.join(STARTING_S)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert kills >= 2
    assert STAGES[stage][0].events(root, name) == expected[stage]
    assert same_policy(root, name, f"good-{stage}")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_server_is_waited_for(root: Path, expected, stage):
    """It is gone in the middle of the run and comes back at the same address."""
    name = f"widowed-{stage}"
    with serving("stub") as first:
        ports = ("--grpc-port", str(first.grpc_port), "--http-port", str(first.http_port))
        process = started(stage, root, name, first.target)
        wait_until(lambda: '"step"' in log(root, name), "the first step", patience_s=STARTING_S)
        first.process.kill()
        first.process.wait()
        with serving("stub", *ports):
            process.join(STARTING_S)
    assert process.exitcode == 0
    assert STAGES[stage][0].events(root, name) == expected[stage]
    assert same_policy(root, name, f"good-{stage}")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_stream_cut_off_in_the_middle(root: Path, server: Server, expected, stage, door):
    """Connections break after so many bytes of answers; none of them is lost, and none comes twice."""
    port = server.grpc_port if door == "grpc" else server.http_port
    with toxic(port, 700, 1500, 900, 2500, 40) as proxy:
        address = proxy.address if door == "grpc" else f"http://{proxy.address}"
        found = finished(stage, root, f"cut-{stage}-{door}", address)
        assert proxy.broken >= 3
    assert found == expected[stage]


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_refusals_are_waited_out(root: Path, expected, door):
    """503 with a hint, and RESOURCE_EXHAUSTED: the server has room for one, and is asked by several."""
    with serving("stub", "--max-concurrent-requests", "1", "--max-client-batch-size", "1") as full:
        address = full.target if door == "grpc" else full.url
        assert finished("ppo", root, f"full-{door}", address) == expected["ppo"]


def test_a_server_that_takes_its_time(root: Path, expected):
    """The device is held until a rollout waits for it."""
    with open_doors() as doors:
        doors.gate.hold()
        process = started("ppo", root, "held", doors.target)
        wait_until(lambda: doors.gate.rows > 0, "a rollout", patience_s=STARTING_S)
        doors.gate.open()
        process.join(STARTING_S)
        assert process.exitcode == 0
    assert pico_ppo.events(root, "held") == expected["ppo"]
