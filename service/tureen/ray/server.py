"""The command's own process: a cluster where none was named, the application on it, the end of both."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import ray
from ray import serve

from tureen.ray.config import RayConfig
from tureen.ray.deployments import QUIET, bound
from tureen.transports import logs
from tureen.transports.logs import say
from tureen.usage import UsageError

NAME = "tureen"
OBJECT_STORE_BYTES = (
    256 * 2**20
)  # of a cluster of our own; what is larger than 100 KiB passes through


def run(config: RayConfig) -> int:
    """Serves until SIGTERM or SIGINT; the exit status.

    Raises UsageError where no cluster or no application can be had.
    """
    logs.configure(config)
    started_s = time.monotonic()
    application = bound(config)
    _join(config)
    leaving, starting = threading.Event(), True

    def leave(*_: object) -> None:
        leaving.set()
        if starting:
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    try:
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        say(f"starting {config.min_replicas} to {config.most_replicas} replicas of {config.models}")
        door = serve.run(application, name=NAME, route_prefix=None)
        addresses, _, _ = door.addresses.remote().result()
        starting = False
        say(f"ready after {time.monotonic() - started_s:.1f} s on {addresses}")
        leaving.wait()
        say("leaving: nothing new is admitted, the rest is answered")
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        raise UsageError(f"Ray Serve could not start it: {error}") from error
    finally:
        starting = False
        serve.delete(NAME)
        ray.shutdown()
    return 0


def _join(config: RayConfig) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read by the cluster that is started below
    if config.ray_address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
        )
        return
    try:
        ray.init(address=config.ray_address, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise UsageError(
            f"there is no Ray cluster at {config.ray_address} ({error}): start one with `ray start "
            "--head`, or leave --ray-address out"
        ) from error
