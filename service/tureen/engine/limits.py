"""How much the engine takes on. Names are those of text-embeddings-inference; units are in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tureen.engine.backend import BatchLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits that do not depend on the model.

    max_batch_tokens, max_batch_requests: of one device batch, padding included; None takes what
    suits the backend.
    max_concurrent_requests: responses in flight. max_client_batch_size: responses in one request.
    max_body_bytes: of one request, enforced where it is read.
    cache_bytes: of remembered values; 0 remembers none.
    tokenization_workers: threads; they compete with the device where the device is the CPU.
    """

    max_batch_tokens: int | None = None
    max_batch_requests: int | None = None
    max_concurrent_requests: int = 4096
    max_client_batch_size: int = 1024
    max_body_bytes: int = 4 * 2**20
    cache_bytes: int = 64 * 2**20
    tokenization_workers: int = 2

    def __post_init__(self) -> None:
        for name in (
            "max_batch_tokens",
            "max_batch_requests",
            "max_concurrent_requests",
            "max_client_batch_size",
            "max_body_bytes",
            "tokenization_workers",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.cache_bytes < 0:
            raise ValueError(
                f"cache_bytes is {self.cache_bytes}; it must be at least 0 (which remembers nothing)."
            )
        if self.max_client_batch_size > self.max_concurrent_requests:
            raise ValueError(
                f"max_client_batch_size is {self.max_client_batch_size}, above "
                f"max_concurrent_requests ({self.max_concurrent_requests}): such a request could "
                "never be admitted. Lower the first or raise the second."
            )

    def batch_limits(self, suited: BatchLimits) -> BatchLimits:
        """suited: to the backend."""
        return replace(
            suited,
            max_batch_tokens=self.max_batch_tokens or suited.max_batch_tokens,
            max_batch_requests=self.max_batch_requests or suited.max_batch_requests,
        )
