"""The wire contract explains itself: every field and every call says what it means."""

from __future__ import annotations

import re

from tests.house.source import ROOT, name

DECLARED = re.compile(r"\s*(?:rpc \w+|(?:repeated |optional )?(?:map<[^>]+>|[\w.]+) \w+ = \d+;)")


def test_every_field_and_call_is_commented() -> None:
    bare = []
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        before = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if DECLARED.match(line) and not before.lstrip().startswith("//"):
                bare.append(f"{name(path)}:{number}: {line.strip()}")
            before = line
    assert not bare
