"""`tureen soup list|create|shadow|activate|rollback`: soups of a running server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tureen.client import GrpcRewardClient, RewardClient
from tureen.client.sync_surface import SyncSurface
from tureen.commands.output import print_json
from tureen.contracts import ShadowReport, SoupInfo, SoupList
from tureen.errors import UnknownSoup
from tureen.usage import Parser, UsageError

SOUP_HELP = "fingerprint of a soup, or enough of its beginning"
TIMEOUT_S = 600.0  # a large soup takes minutes to form, and what wants it waits


def list(argv: Sequence[str]) -> None:
    parser = _parser("list", "The soups of a running server, and what was done to them.")
    arguments = parser.read(argv)
    with _client(arguments) as client:
        found = client.soups(arguments.model)
    if arguments.json:
        print_json(found)
        return
    console = Console()
    soups = Table("soup", "state", "created", "coefficients", title=found.model)
    for one in found.soups:
        shares = ", ".join(f"{name} {share:g}" for name, share in one.coefficients.items())
        soups.add_row(_short(one.fingerprint), one.state, _time(one.created_ns), shares)
    console.print(soups)
    for one in found.soups:
        _print_more(console, one)
    history = Table("time", "action", "soup", "by")
    for event in found.history:
        history.add_row(_time(event.time_ns), event.action, _short(event.fingerprint), event.by)
    console.print(history)


def create(argv: Sequence[str]) -> None:
    parser = _parser("create", "Form a soup of the server's ingredients in the background.")
    parser.add_argument(
        "--coefficient",
        action="append",
        default=[],
        metavar="NAME=W",
        help="weight of an ingredient, at least 0; they add up to 1, one left out weighs nothing",
    )
    arguments = parser.read(argv)
    coefficients: dict[str, float] = {}
    for given in arguments.coefficient:
        name, _, weight = given.rpartition("=")
        try:
            coefficients[name] = float(weight)
        except ValueError:
            raise UsageError(
                f"--coefficient is {given!r}; write NAME=W, such as even=0.5"
            ) from None
    with _client(arguments) as client:
        _print(client.create_soup(coefficients, arguments.model), arguments.json)


def shadow(argv: Sequence[str]) -> None:
    parser = _parser("shadow", "Compare a soup with the active one; the active one's own ends it.")
    parser.add_argument("soup", metavar="SOUP", help=SOUP_HELP)
    arguments = parser.read(argv)
    with _client(arguments) as client:
        fingerprint = _fingerprint(client.soups(arguments.model), arguments.soup)
        _print(client.shadow_soup(fingerprint, arguments.model), arguments.json)


def activate(argv: Sequence[str]) -> None:
    parser = _parser("activate", "Answer every request by this soup from now on.")
    parser.add_argument("soup", metavar="SOUP", help=SOUP_HELP)
    arguments = parser.read(argv)
    with _client(arguments) as client:
        fingerprint = _fingerprint(client.soups(arguments.model), arguments.soup)
        _print(client.activate_soup(fingerprint, arguments.model), arguments.json)


def rollback(argv: Sequence[str]) -> None:
    parser = _parser("rollback", "Return to the soup that was active before.")
    parser.add_argument(
        "soup", metavar="SOUP", nargs="?", help="that is left; left out, whatever is active"
    )
    arguments = parser.read(argv)
    with _client(arguments) as client:
        soups = client.soups(arguments.model) if arguments.soup else None
        fingerprint = _fingerprint(soups, arguments.soup) if soups is not None else None
        _print(client.rollback_soup(fingerprint, arguments.model), arguments.json)


def _parser(action: str, description: str) -> Parser:
    parser = Parser(prog=f"tureen soup {action}", description=description)
    parser.add_argument("url", metavar="URL", help="http://host:8080 or grpc://host:8081")
    parser.add_argument(
        "--admin-key",
        default=os.environ.get("TUREEN_ADMIN_KEY"),
        help="of the server; better in TUREEN_ADMIN_KEY, where no list of processes shows it",
    )
    parser.add_argument("--model", metavar="ID", help="whose soups [default the default model's]")
    parser.add_argument("--root-certificates", metavar="FILE", help="PEM file to trust")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _client(arguments: argparse.Namespace) -> SyncSurface:
    scheme, separator, _ = arguments.url.partition("://")
    if not separator:
        raise UsageError(
            f"{arguments.url!r} does not say which door it is; write http://{arguments.url} or "
            f"grpc://{arguments.url} (https://, grpcs:// for TLS)"
        )
    over_http = scheme in ("http", "https")
    return (RewardClient if over_http else GrpcRewardClient)(
        arguments.url,
        api_key=arguments.admin_key,
        root_certificates=arguments.root_certificates,
        timeout_s=TIMEOUT_S,
    )


def _fingerprint(soups: SoupList, beginning: str) -> str:
    """The one soup whose fingerprint begins so, with or without "sha256:"."""
    known = [one.fingerprint for one in soups.soups]
    found = [
        one
        for one in known
        if one.startswith(beginning) or one[len("sha256:") :].startswith(beginning)
    ]
    if len(found) != 1:
        raise UnknownSoup(
            f"{len(found)} soups of {soups.model} begin with {beginning!r}; known are "
            f"{', '.join(known)}."
        )
    return found[0]


def _print(one: SoupInfo, as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    console = Console()
    console.print(f"[bold]{one.fingerprint}[/]  {one.soup}  {one.state}")
    _print_more(console, one)


def _print_more(console: Console, one: SoupInfo) -> None:
    if one.trouble is not None:
        console.print(f"{_short(one.fingerprint)} failed: {one.trouble}", markup=False)
    if one.shadow is not None:
        console.print(f"{_short(one.fingerprint)} as a shadow: {_compared(one.shadow)}")


def _compared(report: ShadowReport) -> str:
    counts = f"{report.responses} responses, {report.skipped} skipped, {report.failed} failed"
    if report.rank_correlation is None or report.drift_psi is None:
        return counts
    return (
        f"{counts}, rank correlation {report.rank_correlation:.4f}, drift {report.drift_psi:.4f} PSI, "
        f"mean reward {report.mean_active:.4f} -> {report.mean_shadow:.4f}, "
        f"largest change {report.largest_change:.4f}"
    )


def _short(fingerprint: str) -> str:
    return fingerprint.removeprefix("sha256:")[:12]


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
