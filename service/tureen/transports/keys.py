"""Keys: who may score, how much and in which lane, and who may change soups.

A line of a key file is a key, or its hash, and what holds for it:

    sha256:2c26…ae  name=trainer priority=bulk quota=60000   # responses a minute
    sha256:fcde…12  name=console

A key is compared by its SHA-256 and never kept. A plain hash is enough for keys that were drawn at
random, as `tureen keys new` draws them: there is no dictionary of them to try.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tureen.bearer import usable
from tureen.config import Config
from tureen.contracts import Priority
from tureen.engine.quota import Quota
from tureen.errors import Forbidden, Unauthenticated, nearest
from tureen.usage import UsageError

_RANDOM_BYTES = 32
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_OPTIONS = ("name", "priority", "quota")


@dataclass(frozen=True, slots=True)
class Key:
    """name: what metrics, traces, logs and the history of soups call whoever has it.

    lane: the best its requests may have; bulk puts them all there. quota: None is no limit.
    """

    name: str
    digest: bytes
    admin: bool
    lane: Priority = Priority.INTERACTIVE
    quota: Quota | None = None


class Keys:
    """All keys of a server.

    Raises:
        UsageError: a file that cannot be used, a key or a name that is there twice, or an address
            that other machines reach while no key is set.
    """

    def __init__(self, config: Config) -> None:
        scoring = list(_all(config.api_key, config.api_key_file, "key", admin=False))
        admin = list(_all(config.admin_key, config.admin_key_file, "admin", admin=True))
        if not scoring and not config.insecure_no_key and not _is_loopback(config.host):
            raise UsageError(
                f"host {config.host} can be reached from other machines and no key is set: give "
                "--api-key or --api-key-file, or say --insecure-no-key if everybody may score"
            )
        self._keys = (*scoring, *admin)
        self._quotas = {key.name: key.quota for key in self._keys}
        self.open_to_strangers = not scoring
        self.has_admin = bool(admin)
        for what, found in (
            ("name", [key.name for key in self._keys]),
            ("key", [key.digest for key in self._keys]),
        ):
            for place, one in enumerate(found):
                if one in found[:place]:
                    raise UsageError(
                        f"two keys have the same {what} ({self._keys[place].name}); each must have "
                        "its own: change one of them"
                    )

    def quota(self, name: str) -> Quota | None:
        """Of the key of this name."""
        return self._quotas.get(name)

    def scorer(self, authorization: str | None) -> Key | None:
        """Whoever may score; None is a stranger where there are no keys.

        Raises:
            Unauthenticated: no key, or none of this server's.
        """
        key = self._find(_given(authorization))
        if key is None and not self.open_to_strangers:
            raise _unknown(authorization)
        return key

    def admin(self, authorization: str | None) -> Key:
        """Whoever may change soups.

        Raises:
            Unauthenticated: no key, or none of this server's.
            Forbidden: a key that scores, or a server without an admin key.
        """
        if not self.has_admin:
            raise Forbidden(
                "This server has no admin key, so nobody may do this. Start it with --admin-key or "
                "--admin-key-file."
            )
        key = self._find(_given(authorization))
        if key is None:
            raise _unknown(authorization)
        if not key.admin:
            raise Forbidden("The key that was sent may score and no more. Send an admin key.")
        return key

    def _find(self, given: bytes | None) -> Key | None:
        if given is None:
            return None
        digest = hashlib.sha256(given).digest()
        # Every key is compared, each in constant time: the delay of the answer tells nothing.
        equal = [hmac.compare_digest(key.digest, digest) for key in self._keys]
        return next((key for key, same in zip(self._keys, equal, strict=True) if same), None)


def new_key() -> str:
    """A random key of 256 bits."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def hashed(key: str) -> str:
    """A key as a key file holds it."""
    return f"sha256:{hashlib.sha256(usable(key).encode()).hexdigest()}"


def _given(authorization: str | None) -> bytes | None:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip().encode() if scheme.lower() == "bearer" and key.strip() else None


def _unknown(authorization: str | None) -> Unauthenticated:
    if _given(authorization) is None:
        return Unauthenticated("No key was sent. Send 'Authorization: Bearer KEY'.")
    return Unauthenticated("The key that was sent is not one of this server's. Send one that is.")


def _all(plain: Iterable[str], file: Path | None, kind: str, *, admin: bool) -> Iterator[Key]:
    """Keys without a name are called "key-1", "key-2", …, or "admin-1", …"""
    setting = "admin_key" if admin else "api_key"
    number = 0

    def next_name() -> str:
        nonlocal number
        number += 1
        return f"{kind}-{number}"

    for one in plain:
        try:
            yield _of_line(one, next_name, admin)
        except ValueError as error:
            raise UsageError(f"{setting} holds {error}") from None
    if file is None:
        return
    found = False
    for place, line in enumerate(_lines(file, f"{setting}_file"), start=1):
        if written := line.split("#")[0].strip():
            found = True
            try:
                yield _of_line(written, next_name, admin)
            except ValueError as error:
                raise UsageError(f"{setting}_file {file}, line {place}: it holds {error}") from None
    if not found:
        raise UsageError(f"{setting}_file {file} holds no key: write one a line")


def _lines(path: Path, setting: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{setting} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{setting} {path} is no UTF-8 text: write one key a line") from None


def _of_line(line: str, next_name: Callable[[], str], admin: bool) -> Key:
    """Raises ValueError, which never repeats the key."""
    key, *written = line.split() or [""]
    stated = _HASHED.fullmatch(key)
    if stated is None and key.startswith("sha256:"):
        raise ValueError("sha256: without 64 lower-case hexadecimal digits after it")
    digest = bytes.fromhex(stated[1]) if stated else hashlib.sha256(usable(key).encode()).digest()
    options = check_options(written)
    name = options["name"] if "name" in options else next_name()
    return Key(name, digest, admin, _lane(options.get("priority")), _quota(options.get("quota")))


def check_options(written: Iterable[str]) -> dict[str, str]:
    """What is written behind a key, each as NAME=VALUE; raises ValueError, which repeats no key."""
    options: dict[str, str] = {}
    for one in written:
        name, separator, value = one.partition("=")
        if not separator:
            raise ValueError("an unusable key: keys are printable ASCII without spaces")
        if name not in _OPTIONS:
            raise ValueError(f"an option {name!r}{nearest(name, _OPTIONS)}")
        options[name] = value
    if "name" in options and not _NAME.fullmatch(options["name"]):
        raise ValueError("a name that is not 1 to 40 letters, digits, '.', '_' or '-'")
    _lane(options.get("priority"))
    _quota(options.get("quota"))
    return options


def _lane(value: str | None) -> Priority:
    if value is None:
        return Priority.INTERACTIVE
    if value not in list(Priority):
        raise ValueError(f"priority={value}; it can be {' or '.join(Priority)}")
    return Priority(value)


def _quota(value: str | None) -> Quota | None:
    if value is None:
        return None
    if not value.isdecimal() or not int(value):
        raise ValueError(
            f"quota={value}; it must be a whole number of responses a minute, 1 at least"
        )
    return Quota(int(value))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: whoever resolves it may stand anywhere
        return False
