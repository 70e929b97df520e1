"""The console at /: static files of the package, with headers that let them do only what they do."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER: Final = "console"
HEADERS: Final = {
    # Our own files, our own API, nothing inline; text can never become markup (Trusted Types).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-cache",  # ask each time, so that page and modules are of one version
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def install(app: FastAPI) -> None:
    """GET / answers the page; what it loads lies under /console."""
    static = _Files(directory=str(files("tureen") / FOLDER))
    app.mount(f"/{FOLDER}", static, name=FOLDER)

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> Response:
        return await static.get_response("index.html", request.scope)
