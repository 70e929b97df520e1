"""`tureen soup`: soups on this machine, and those of a running server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from tureen.errors import nearest
from tureen.usage import UsageError

HELP = """usage: tureen soup {inspect,make,diff} [...]
       tureen soup {list,create,shadow,activate,rollback} URL [...]

  inspect MODEL                      ingredients, coefficients, heads and fingerprint of a soup
  make MODEL MODEL ... --out DIR     average checkpoints that share a pretrained ancestor
  diff MODEL OTHER                   what two models differ in, layer by layer

  list URL                           soups of a running server, and what was done to them
  create URL --coefficient NAME=W    form another weighting of its ingredients in the background
  shadow URL SOUP                    compare a soup with the active one, which goes on answering
  activate URL SOUP                  answer by this soup from now on
  rollback URL [SOUP]                return to the soup that was active before

A server is http://host:8080 or grpc://host:8081 (https://, grpcs://) and wants its admin key:
--admin-key or TUREEN_ADMIN_KEY. SOUP is a fingerprint, or enough of its beginning.
`tureen soup make --help` explains one.
"""

MODULES = {
    **dict.fromkeys(("inspect", "make", "diff"), "soup_files"),
    **dict.fromkeys(("list", "create", "shadow", "activate", "rollback"), "soup_live"),
}
"""Action -> module of `tureen.commands`: those about a server need no torch."""


def main(argv: Sequence[str]) -> int:
    name = argv[0] if argv else "--help"
    if name in {"-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    if name not in MODULES:
        raise UsageError(f"{name!r} is not an action of tureen soup{nearest(name, MODULES)}")
    module = importlib.import_module(f"tureen.commands.{MODULES[name]}")
    getattr(module, name)(argv[1:])
    return 0
