"""TLS at both doors from one pair of files; mutual where a client's certificate is asked for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tureen.config import Config
from tureen.usage import UsageError


@dataclass(frozen=True, slots=True)
class Tls:
    """client_ca: who signs certificates of clients; None: clients need none."""

    certificate: Path
    key: Path
    client_ca: Path | None

    def for_uvicorn(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        if self.client_ca is not None:
            settings |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return settings

    def for_grpc(self) -> grpc.ServerCredentials:
        ca = None if self.client_ca is None else self.client_ca.read_bytes()
        pair = self.key.read_bytes(), self.certificate.read_bytes()
        return grpc.ssl_server_credentials(
            [pair], root_certificates=ca, require_client_auth=ca is not None
        )


def tls_of(config: Config) -> Tls | None:
    """None: both doors speak plainly.

    Raises:
        UsageError: one file without the others it needs, or files that cannot be used.
    """
    certificate, key = config.tls_certificate_file, config.tls_key_file
    client_ca = config.tls_client_ca_file
    if certificate is None or key is None:
        if certificate is not None or key is not None or client_ca is not None:
            raise UsageError(
                "TLS needs tls_certificate_file and tls_key_file, both; give the one that is missing"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (certificate, key, *([client_ca] if client_ca else [])):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    try:
        # Else OpenSSL would ask the terminal for the password of an encrypted key.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError):
        raise UsageError(
            f"{certificate} and {key} are no PEM certificate with its private key, without a "
            "password; give such a pair"
        ) from None
    try:
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except ssl.SSLError:
        raise UsageError(
            f"tls_client_ca_file {client_ca} is no PEM certificate; give that of whoever signs "
            "your clients' certificates"
        ) from None
    return Tls(certificate, key, client_ca)
