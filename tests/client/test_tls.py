"""Certificates that the system does not know, trusted by name."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from client.stand_in import GrpcStandIn, StandIn

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.errors import ServiceUnreachable

NEVER = Retry(max_retries=0)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, private key) of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def https(keys: tuple[Path, Path]) -> Iterator[str]:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*keys)
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def grpcs(keys: tuple[Path, Path]) -> Iterator[str]:
    certificate, key = (path.read_bytes() for path in keys)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with GrpcStandIn(StandIn(), "127.0.0.1:0", credentials) as server:
        yield f"grpcs://{server.address}"


def test_https(https, keys):
    with RewardClient(https, root_certificates=keys[0]) as client:
        assert client.healthy()
    with RewardClient(https, retry=NEVER) as stranger:
        assert not stranger.healthy()
        with pytest.raises(ServiceUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.score("p", ["r"])


def test_grpcs(grpcs, keys):
    with GrpcRewardClient(grpcs, root_certificates=keys[0]) as client:
        assert client.score("p", ["r"])[0].reward == 1.0
    with GrpcRewardClient(grpcs, retry=NEVER) as stranger, pytest.raises(ServiceUnreachable):
        stranger.score("p", ["r"])
