from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

from swarmplane.datadir import DataDir
from swarmplane.runtime import (
    Runtime,
    read_ready,
    read_runtime,
    remove_ready,
    remove_runtime,
    write_ready,
    write_runtime,
)


def test_runtime_there_and_back(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    assert read_runtime(data_dir) is None
    runtime = Runtime(1, "n", "name", "s", {"sidecar": 2}, {"client": "http://127.0.0.1:11400"})
    write_runtime(data_dir, runtime)
    assert json.loads(data_dir.runtime.read_text()) == {
        "schema": "swarmplane.runtime/v1",
        "pid": 1,
        "node_id": "n",
        "node_name": "name",
        "swarm": "s",
        "pids": {"sidecar": 2},
        "urls": {"client": "http://127.0.0.1:11400"},
    }
    if sys.platform != "win32":
        assert stat.S_IMODE(data_dir.runtime.stat().st_mode) == 0o600
    assert read_runtime(data_dir) == runtime
    remove_runtime(data_dir)
    remove_runtime(data_dir)
    assert read_runtime(data_dir) is None


def test_what_can_not_be_read_is_nothing(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    for text in ("", "{", "[]", '{"schema": "another/v9", "pid": 1}'):
        data_dir.runtime.write_text(text)
        assert read_runtime(data_dir) is None
    data_dir.runtime.write_text('{"schema": "swarmplane.runtime/v1", "pid": "x", "pids": 3}')
    assert read_runtime(data_dir) == Runtime(0, "", "", "")


def test_ready_files(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    assert read_ready(data_dir, "sidecar") is None
    write_ready(data_dir, "sidecar", {"pid": 7, "admin": "127.0.0.1:1"})
    assert read_ready(data_dir, "sidecar") == {"pid": 7, "admin": "127.0.0.1:1"}
    assert read_ready(data_dir, "controlplane") is None
    remove_ready(data_dir, "sidecar")
    assert read_ready(data_dir, "sidecar") is None
