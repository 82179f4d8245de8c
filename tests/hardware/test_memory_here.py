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


def test_a_group_of_version_1_counts_as_well(tmp_path: Path) -> None:
    """Kills: its files are not looked for; page cache of groups below it is left out."""
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(f"{GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{GIB - 5_000}\n")
    (group / "memory.stat").write_text("inactive_file 1000\ntotal_inactive_file 2000\n")
    found = memory_here(tmp_path)
    assert (found.free, found.total) == (7_000, GIB)
    (group / "memory.limit_in_bytes").write_text(f"{(1 << 63) - 4096}\n")
    assert memory_here(tmp_path).total == psutil.virtual_memory().total, "no limit"
    (group / "memory.stat").write_text("total_inactive_file\n")
    assert memory_here(tmp_path).total == psutil.virtual_memory().total, "what can't be read"


def test_a_machine_has_its_own_where_no_group_limits_it(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    for group in (tmp_path / "none", _group(tmp_path, "max", 5, 0)):
        found = memory_here(group)
        assert found.total == total
        assert 0 < found.free <= total
    assert memory_here(_group(tmp_path, str(total * 2), total, 0)).total == total
