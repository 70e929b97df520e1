"""What a reward model that is none says of itself."""

from __future__ import annotations

from typing import Any

from tureen.contracts import Limits, ModelInfo


def limits(**changes: int) -> Limits:
    """Of a small server; the named ones as given."""
    small: dict[str, int] = {
        "max_input_tokens": 512,
        "max_windows": 1,
        "max_batch_tokens": 16384,
        "max_batch_requests": 64,
        "max_concurrent_requests": 512,
        "max_client_batch_size": 32,
        "max_body_bytes": 2**20,
    }
    return Limits(**small | changes)


def model_info(**changes: Any) -> ModelInfo:
    """A model of one member and no heads; the named fields as given."""
    plain: dict[str, Any] = {
        "id": "toy",
        "fingerprint": "sha256:toy",
        "soup": "single:1",
        "base": "none",
        "backend": "toy",
        "dtype": "float32",
        "device": "cpu",
        "members": 1,
        "temperature": 1.0,
        "heads": (),
        "ingredients": (),
        "data_licences": (),
        "limits": limits(),
    }
    return ModelInfo(**plain | changes)
