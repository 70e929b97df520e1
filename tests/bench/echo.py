"""The bare echo: what FastAPI and uvicorn cost when nothing is done.

python -m bench.echo PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI


def create_app() -> FastAPI:
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> str:
        return "ready"

    @app.post("/v1/score")
    async def score(body: dict[str, Any]) -> dict[str, Any]:
        return body

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="error", loop="uvloop")
