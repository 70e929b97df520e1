"""The HTTP routes about soups; all of them want an admin key.

They are about the default model, or about the one that `?model=` names; a body says it itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from tureen.contracts import CreateSoupRequest, SoupInfo, SoupList
from tureen.engine.caller import ANONYMOUS, CALLER
from tureen.engine.scoring import Scoring, SoupKeeping
from tureen.transports import openapi
from tureen.transports.admission import Admission
from tureen.transports.compat import Answer
from tureen.transports.json_body import JsonBody
from tureen.transports.query import check_query
from tureen.transports.reply import json_reply

ACCEPTED = 202
MODEL = "model"


def administrator() -> str:
    """Name of the key of whoever asks."""
    caller = CALLER.get()
    return caller.client if caller is not None else ANONYMOUS


def install(app: FastAPI, admission: Admission, answer: Answer) -> None:
    """Adds the routes. answer: the way of every request of an administrator."""
    create_body = JsonBody(CreateSoupRequest)

    async def about(request: Request, work: Callable[[SoupKeeping], Awaitable[object]]) -> Response:
        async def reply(scorer: Scoring, body: bytes, terms: dict[str, Any]) -> Response:
            check_query(request.query_params, (MODEL,))
            return json_reply(await work(admission.soups(request.query_params.get(MODEL))))

        return await answer(request, "soups", reply)

    def described(answers: type, asks: type | None = None) -> dict[str, Any]:
        query = {} if asks is not None else {MODEL: ()}
        made = openapi.operation(
            asks=asks, answers=answers, errors=openapi.ADMIN_ERRORS, query=query
        )
        if asks is not None:  # is done in the background
            made["responses"][str(ACCEPTED)] = made["responses"].pop("200")
        return made

    @app.get("/v1/soups", openapi_extra=described(SoupList))
    async def list_soups(request: Request) -> Response:
        """The soups of the model, which of them is active, and what was done to them by whom."""
        return await about(request, lambda soups: soups.list())

    @app.post(
        "/v1/soups", status_code=ACCEPTED, openapi_extra=described(SoupInfo, CreateSoupRequest)
    )
    async def create_soup(request: Request) -> Response:
        """Form a soup in the background from coefficients of the model's ingredients."""

        async def reply(scorer: Scoring, body: bytes, terms: dict[str, Any]) -> Response:
            check_query(request.query_params)
            asked = create_body.parse(body)
            made = await admission.soups(asked.model).create(asked.coefficients, administrator())
            return json_reply(made, ACCEPTED)

        return await answer(request, "soups", reply)

    @app.post("/v1/soups/rollback", openapi_extra=described(SoupInfo))
    async def rollback(request: Request) -> Response:
        """Return from whatever soup is active to the one that was active before."""
        return await about(request, lambda soups: soups.rollback(None, administrator()))

    @app.post("/v1/soups/{fingerprint}/rollback", openapi_extra=described(SoupInfo))
    async def rollback_soup(request: Request, fingerprint: str) -> Response:
        """The same, if this soup is the one to leave, or the one to return to."""
        return await about(request, lambda soups: soups.rollback(fingerprint, administrator()))

    @app.post("/v1/soups/{fingerprint}/activate", openapi_extra=described(SoupInfo))
    async def activate_soup(request: Request, fingerprint: str) -> Response:
        """Answer every request from now on by this soup; those in flight finish on the old one."""
        return await about(request, lambda soups: soups.activate(fingerprint, administrator()))

    @app.post("/v1/soups/{fingerprint}/shadow", openapi_extra=described(SoupInfo))
    async def shadow_soup(request: Request, fingerprint: str) -> Response:
        """Compare this soup with the active one, which goes on answering; its own ends that."""
        return await about(request, lambda soups: soups.shadow(fingerprint, administrator()))
