"""A reference page that is made from the code: written, or compared with what stands in the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def keep(path: Path, page: Callable[[], str], about: str | None) -> None:
    """Write what ``page`` gives to ``path``; with ``--check``, end with status 1 where it stands otherwise.

    ``about`` is what ``--help`` says.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is stale")
    check, fresh = parser.parse_args().check, page()
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fresh, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != fresh:
        sys.exit(f"docs/reference/{path.name} is stale; run: make references")
