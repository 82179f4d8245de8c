"""The how-to for automation, as it stands in the documents, against a founder in processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.hosts import Backend, Host

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.timeout(180)
def test_the_snippets_of_the_how_to_run(tmp_path: Path) -> None:
    snippets = SNIPPET.findall((ROOT / "docs" / "how-to" / "automate.md").read_text(encoding="utf-8"))
    assert len(snippets) >= 5
    founder, backend = Host(tmp_path, "founder"), Backend("llama")
    try:
        founder.up("--backend", backend.url)
        context = founder.data_dir / "contexts" / "default"
        for snippet in snippets:
            dead = "127.0.0.1:9"
            addresses = (dead, f"127.0.0.1:{founder.ports['control']}")
            done = subprocess.run(
                [sys.executable, "-c", f"HOME, ADDRESSES = {str(context)!r}, {addresses!r}\n{snippet}"],
                env={**os.environ, "SWARMPLANE_DATA_DIR": str(founder.data_dir)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, ""), snippet
    finally:
        founder.close()
        backend.close()
