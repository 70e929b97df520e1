"""The bare control: FastAPI and transformers, one forward pass a request, no queue and no batches.

Same weights, same windows, same arithmetic as the server; only what Tureen adds is missing. Requests run in
FastAPI's threads. Forward passes that fight for the cores may be slower than one at a time, so the control is
measured with a lock, too: nobody shall win for want of one.

    python -m bench.control MODEL PORT [--one-at-a-time]
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI

from tureen import Sample
from tureen.engine.loading import load_model
from tureen.engine.stub_backend import STUB
from tureen.text.batch import Batch, collate


def create_app(name: str, *, one_at_a_time: bool = False) -> FastAPI:
    model = load_model(name, backend="torch")
    forward = model.backend.forward if name == STUB else _plain(name)
    granularities = {head.granularity for head in model.heads}
    weights = np.array([head.weight / head.calibration.std for head in model.heads])
    device = threading.Lock() if one_at_a_time else contextlib.nullcontext()
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> str:
        return "ready"

    @app.post("/v1/score")
    def score(body: dict[str, Any]) -> dict[str, float]:  # not async: runs in FastAPI's threads
        sample = body["samples"][0]
        (encoded,) = model.encoder.encode(
            Sample(
                prompt=sample["prompt"],
                context=tuple(sample["context"]),
                responses=tuple(sample["responses"]),
            ),
            granularities,
        )
        batch = collate(encoded.windows, model.pad_id)
        with device:
            values = forward(batch)
        return {"reward": float(values[:, 0, 0].mean(axis=0) @ weights)}

    return app


def _plain(name: str) -> Callable[[Batch], np.ndarray]:
    """The module of transformers, called as it is."""
    import torch

    from tureen.model import checkpoint
    from tureen.model.directory import find_model

    module = checkpoint.load(find_model(name)).model

    @torch.inference_mode()
    def forward(batch: Batch) -> np.ndarray:
        arrays = batch.arrays().items()
        return module(**{name: torch.from_numpy(array) for name, array in arrays}).numpy()

    return forward


if __name__ == "__main__":
    app = create_app(sys.argv[1], one_at_a_time="--one-at-a-time" in sys.argv)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error", loop="uvloop")
