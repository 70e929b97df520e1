"""The settings of `tureen serve-ray`: those of `tureen serve`, and how many do the work."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tureen.config import Config


class RayConfig(Config):
    """`http_port`, `grpc_port`, `host`, keys, TLS and `max_connections` are those of each door; limits,
    `backend`, `device`, `cache_bytes` those of each replica; `state_dir` is read on the head node."""

    ray_address: str | None = Field(
        default=None,
        description="Ray cluster to join: auto (this machine's, or RAY_ADDRESS) or HOST:PORT. Left "
        "out, one is started on this machine for as long as the command runs.",
    )
    min_replicas: int = Field(
        default=1, ge=1, description="Replicas of the engine that are always there."
    )
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        description="Replicas under load, by the requests that wait. Left out: as many as always.",
    )
    target_ongoing_requests: float = Field(
        default=32.0,
        gt=0,
        allow_inf_nan=False,
        description="Requests of one replica, waiting and scored, that autoscaling aims at.",
    )
    upscale_delay_s: float = Field(
        default=10.0,
        ge=0,
        allow_inf_nan=False,
        description="How long more must have been asked for before replicas are added.",
    )
    downscale_delay_s: float = Field(
        default=600.0,
        ge=0,
        allow_inf_nan=False,
        description="How long less must have been asked for before replicas leave.",
    )
    num_gpus: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="GPUs of one replica; 0.5 shares one between two. 0 leaves the GPUs alone.",
    )
    num_cpus: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="CPU cores that Ray sets aside for one replica; torch takes so many threads.",
    )
    doors: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Machines that listen on http_port and grpc_port, one door each.",
    )

    @model_validator(mode="after")
    def _enough(self) -> RayConfig:
        if self.most_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}, below min_replicas ({self.min_replicas}): "
                "raise the first or lower the second"
            )
        if len(self.model) > 1:
            raise ValueError(
                f"{len(self.model)} models are named ({self.models}), and a replica serves one: start "
                "a cluster application for each, or `tureen serve` with several on one machine"
            )
        if self.front_ends:
            raise ValueError(
                f"front_ends is {self.front_ends}; a cluster's doors are processes already: leave it "
                "out, and say how many with --doors"
            )
        return self

    @property
    def most_replicas(self) -> int:
        return self.max_replicas if self.max_replicas is not None else self.min_replicas

    def autoscaling(self) -> dict[str, Any]:
        """Of the engine, for Ray Serve."""
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.most_replicas,
            "target_ongoing_requests": self.target_ongoing_requests,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
        }
