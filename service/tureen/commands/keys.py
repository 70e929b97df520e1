"""`tureen keys`: keys for a server, and the lines that a key file holds of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from getpass import getpass

from tureen.contracts import Priority
from tureen.errors import nearest
from tureen.transports.keys import check_options, hashed, new_key
from tureen.usage import Parser, UsageError

HELP = """usage: tureen keys {new,hash} [--name NAME] [--quota N] [--priority LANE]

  new    draw a key: the key goes to stderr, to be given to its user and kept nowhere else;
         its line for --api-key-file or --admin-key-file goes to stdout
  hash   the line of a key that is there already, read from stdin

  tureen keys new --name trainer --quota 60000 --priority bulk >> api.keys
"""


def main(argv: Sequence[str]) -> int:
    action = argv[0] if argv else "--help"
    if action in {"-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    if action not in {"new", "hash"}:
        raise UsageError(
            f"{action!r} is not an action of tureen keys{nearest(action, ['new', 'hash'])}"
        )
    parser = Parser(prog=f"tureen keys {action}", description="A line of a key file.")
    parser.add_argument("--name", help="what metrics, logs and the history of soups call its user")
    parser.add_argument("--quota", metavar="N", help="responses a minute")
    parser.add_argument(
        "--priority", choices=[lane.value for lane in Priority], help="the best lane it may have"
    )
    arguments = parser.read(argv[1:])
    options = {"name": arguments.name, "quota": arguments.quota, "priority": arguments.priority}
    written = [f"{name}={value}" for name, value in options.items() if value is not None]
    try:
        check_options(written)
    except ValueError as error:
        raise UsageError(f"the line would hold {error}") from None
    if action == "new":
        key = new_key()
        sys.stderr.write(f"{key}\n")
    else:
        key = getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        line = hashed(key)
    except ValueError as error:
        raise UsageError(f"stdin holds {error}") from None
    sys.stdout.write(" ".join([line, *written]) + "\n")
    return 0
