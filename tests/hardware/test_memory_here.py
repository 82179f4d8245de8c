"""Memory that a container leaves, by the files of its control group."""

from __future__ import annotations

from pathlib import Path

import psutil

from swarmplane.hardware.memory import memory_here

GIB = 1 << 30


def _group(root: Path, limit: str, used: int, dropped: int) -> Path:
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{used}\n")
    (root / "memory.stat").write_text(f"anon 1\ninactive_file {dropped}\nslab 7\n")
    return root


def test_a_container_has_what_its_group_leaves(tmp_path: Path) -> None:
    found = memory_here(_group(tmp_path, str(GIB), GIB - 5_000, 2_000))
    assert (found.free, found.total) == (7_000, GIB)
    assert memory_here(_group(tmp_path, str(GIB), GIB + 9_000, 0)).free == 0, "over its limit"


def test_a_machine_has_its_own_where_no_group_limits_it(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    for group in (tmp_path / "none", _group(tmp_path, "max", 5, 0)):
        found = memory_here(group)
        assert found.total == total
        assert 0 < found.free <= total
    assert memory_here(_group(tmp_path, str(total * 2), total, 0)).total == total
