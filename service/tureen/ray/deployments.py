"""The three deployments, bound to each other."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from tureen.config import made_of
from tureen.ray.config import RayConfig
from tureen.ray.door import Door
from tureen.ray.engine import Engine
from tureen.ray.keeper import ENGINE, Keeper
from tureen.transports.keys import Keys

HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node alone
MANY = 100_000  # requests at once, where they only wait
QUIET = {"log_level": "WARNING", "enable_access_log": False}
_MARGIN_S = 5.0


def application(args: dict[str, Any]) -> Application:
    """For `serve run tureen.ray.deployments:application model=… min_replicas=…`: any setting by its name.

    Raises UsageError.
    """
    return bound(made_of(RayConfig, args))


def bound(config: RayConfig) -> Application:
    """
    Raises:
        UsageError: keys that cannot be used.
    """
    Keys(config)  # here, and not in a log of another machine
    common: dict[str, Any] = {
        "max_constructor_retry_count": 3,
        "graceful_shutdown_wait_loop_s": 0.1,
        "health_check_period_s": 1.0,
        "logging_config": QUIET,  # doors keep the log of requests
    }
    keeper = serve.deployment(
        name="Keeper",
        # Its file of soups is where it runs: it stays on the node without which there is no cluster.
        ray_actor_options={"num_cpus": 0, "resources": {HEAD: 0.001}},
        max_ongoing_requests=MANY,
        graceful_shutdown_timeout_s=1.0,
        **common,
    )(Keeper).bind(config)
    most = config.max_concurrent_requests
    engine = serve.deployment(
        name=ENGINE,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        max_ongoing_requests=most,
        max_queued_requests=most,
        autoscaling_config=config.autoscaling(),
        graceful_shutdown_timeout_s=config.drain_s + _MARGIN_S,
        **common,
    )(Engine).bind(config, keeper)
    return serve.deployment(
        name="Door",
        ray_actor_options={"num_cpus": 0},
        num_replicas=config.doors,
        max_replicas_per_node=1,
        max_ongoing_requests=MANY,
        graceful_shutdown_timeout_s=config.drain_s + _MARGIN_S,
        **common,
    )(Door).bind(config, engine, keeper)
