"""A stand-in for the Hugging Face hub: datasets of a directory, by the routes that its client asks for a snapshot."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandInHub:
    """Files of `root`/OWNER/NAME under one commit. asked: method and path of every request."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._respond(self)

            def do_HEAD(self) -> None:
                hub._respond(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{handler.command} {handler.path}")
        content, kind = self._answer(unquote(urlsplit(handler.path).path).strip("/").split("/"))
        handler.send_response(200 if content is not None else 404)
        handler.send_header("x-repo-commit", COMMIT)
        if content is None:
            handler.send_header("x-error-code", "RepoNotFound")
        content = content or b""
        handler.send_header("etag", f'"{hashlib.sha1(content).hexdigest()}"')
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)

    def _answer(self, parts: list[str]) -> tuple[bytes | None, str]:
        """Of /api/datasets/OWNER/NAME/(revision|tree)/REVISION and /datasets/OWNER/NAME/resolve/REVISION/PATH."""
        listing = parts[0] == "api"
        _, owner, name, route, _, *path = parts[listing:]
        repository = self.root / owner / name
        if not repository.is_dir():
            return None, "text/plain"
        if not listing:
            file = repository.joinpath(*path)
            return (file.read_bytes() if file.is_file() else None), "application/octet-stream"
        files = [file for file in sorted(repository.rglob("*")) if file.is_file()]
        tree = [
            {
                "type": "file",
                "path": str(file.relative_to(repository)),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in files
        ]
        about = {
            "id": f"{owner}/{name}",
            "sha": COMMIT,
            "siblings": [{"rfilename": file["path"]} for file in tree],
        }
        return json.dumps(tree if route == "tree" else about).encode(), "application/json"
