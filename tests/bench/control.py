"""The bare control: FastAPI and transformers, one forward pass a request, no queue and no batches.

Same weights, same windows, same arithmetic as the server; only what Tureen adds is missing.

    python tests/bench/control.py MODEL PORT
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI

from tureen import Sample
from tureen.engine.loading import load_model
from tureen.text.batch import collate


def create_app(name: str) -> FastAPI:
    model = load_model(name, backend="torch")
    granularities = {head.granularity for head in model.heads}
    weights = np.array([head.weight / head.calibration.std for head in model.heads])
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
        values = model.backend.forward(collate(encoded.windows, model.pad_id))
        return {"reward": float(values[:, 0, 0].mean(axis=0) @ weights)}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), log_level="error", loop="uvloop")
