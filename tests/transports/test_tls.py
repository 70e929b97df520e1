"""TLS and mutual TLS at both doors, slow senders and too many connections."""

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from doors import open_doors

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.config import Config
from tureen.errors import ServiceUnreachable
from tureen.transports.tls import tls_of
from tureen.usage import UsageError

NEVER = Retry(max_retries=0)
BODY = {"samples": [{"prompt": "a", "responses": ["b"]}]}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")


@dataclass
class Pair:
    certificate: Path
    key: Path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def self_signed(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    san = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    openssl(
        *("req", "-x509", *EC, "-subj", f"/CN={name}", "-addext", san),
        *("-keyout", pair.key, "-out", pair.certificate),
    )
    return pair


def signed(folder: Path, name: str, ca: Pair) -> Pair:
    pair, request = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / f"{name}.csr"
    openssl("req", "-new", *EC[:-2], "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
    openssl(
        *("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key),
        *("-CAcreateserial", "-days", "2", "-out", pair.certificate),
    )
    return pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(folder: Path) -> Pair:
    return self_signed(folder, "localhost")


@needs_openssl
def test_both_doors_speak_tls_and_nothing_else(server: Pair):
    with open_doors(tls_certificate_file=server.certificate, tls_key_file=server.key) as doors:
        https, grpcs = f"https://127.0.0.1:{doors.http_port}", f"grpcs://{doors.target}"
        with RewardClient(https, root_certificates=server.certificate) as client:
            over_http = client.score("p", ["r"])[0].reward
        with GrpcRewardClient(grpcs, root_certificates=server.certificate) as client:
            assert client.score("p", ["r"])[0].reward == over_http
        with RewardClient(doors.url, retry=NEVER) as plain, pytest.raises(ServiceUnreachable):
            plain.score("p", ["r"])
        with GrpcRewardClient(doors.target, retry=NEVER) as plain:
            assert not plain.healthy()


@needs_openssl
def test_mutual_tls_asks_clients_for_a_certificate(server: Pair, folder: Path):
    ca, stranger = self_signed(folder, "ca"), self_signed(folder, "stranger")
    client_pair = signed(folder, "client", ca)
    with open_doors(
        tls_certificate_file=server.certificate,
        tls_key_file=server.key,
        tls_client_ca_file=ca.certificate,
    ) as doors:
        for kind, address in (
            (RewardClient, f"https://127.0.0.1:{doors.http_port}"),
            (GrpcRewardClient, f"grpcs://{doors.target}"),
        ):
            for pair, welcome in ((client_pair, True), (stranger, False), (None, False)):
                with kind(
                    address,
                    retry=NEVER,
                    root_certificates=server.certificate,
                    client_certificate=pair and (pair.certificate, pair.key),
                ) as client:
                    if welcome:
                        assert client.score("p", ["r"])
                    else:
                        with pytest.raises(ServiceUnreachable):
                            client.score("p", ["r"])


@needs_openssl
def test_files_that_cannot_be_used_are_told(server: Pair, folder: Path, tmp_path: Path):
    other = self_signed(folder, "other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tls_certificate_file": server.certificate}, "both"),
        ({"tls_client_ca_file": server.certificate}, "both"),
        ({"tls_certificate_file": server.certificate, "tls_key_file": other.key}, "private key"),
        ({"tls_certificate_file": nonsense, "tls_key_file": server.key}, "private key"),
        ({"tls_certificate_file": tmp_path / "no", "tls_key_file": server.key}, "cannot be read"),
        (
            {
                "tls_certificate_file": server.certificate,
                "tls_key_file": server.key,
                "tls_client_ca_file": nonsense,
            },
            "tls_client_ca_file",
        ),
    ]
    for settings, says in cases:
        with pytest.raises(UsageError, match=says):
            tls_of(Config(**settings))
    assert tls_of(Config()) is None


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(10_000), b""))


def test_slow_senders_are_sent_away():
    """A head that never ends and a body that never comes, while others are served."""
    with open_doors(receive_timeout_s=0.3) as doors:
        with socket.create_connection(("127.0.0.1", doors.http_port), timeout=30) as silent:
            assert everything(silent).startswith(b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", doors.http_port), timeout=30) as slow:
            slow.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\n")
            answer = everything(slow)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"within 0.3 s" in answer
        with socket.create_connection(("127.0.0.1", doors.http_port), timeout=30) as slow:
            slow.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
            answer = everything(slow)
            assert answer.startswith(b"HTTP/1.1 504")
            assert b"receive_timeout_s" in answer
        with httpx2.Client() as client:  # idle between requests is no slow head
            assert client.post(doors.url + "/v1/score", json=BODY).status_code == 200
            time.sleep(0.6)
            assert client.post(doors.url + "/v1/score", json=BODY).status_code == 200


def test_connections_above_the_limit_are_told_when_to_come_back():
    with open_doors(max_connections=2) as doors:
        address = ("127.0.0.1", doors.http_port)
        one, two = socket.create_connection(address), socket.create_connection(address)
        for held in (one, two):
            held.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert held.recv(1000).startswith(b"HTTP/1.1 200")
        with socket.create_connection(address, timeout=30) as third:
            answer = everything(third)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        assert b'"code":"overloaded"' in answer
        one.close()
        two.close()
