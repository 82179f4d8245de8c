from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.supervise.listeners import check_free, client_listeners
from cli.supervise.lock import held, holder
from cli.supervise.stopping import Stopping, Wish, request
from swarmplane.datadir import DataDir
from swarmplane.errors import AlreadyExistsError, FailedPreconditionError
from swarmplane.settings.schema import AdminSettings, ClientSettings, ControlSettings, Settings

HOLD = """
import sys
from pathlib import Path
from cli.supervise.lock import held
from swarmplane.datadir import DataDir
with held(DataDir(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    assert holder(data_dir) is None
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        pid = holder(data_dir)
        assert pid
        with pytest.raises(AlreadyExistsError, match=str(pid)), held(data_dir):
            pytest.fail("held twice")
        other.kill()  # however it dies, the system lets go
        other.wait(10)
        assert holder(data_dir) is None
        with held(data_dir):
            assert data_dir.lock.read_text() == str(os.getpid())
    finally:
        other.kill()
        other.communicate(timeout=10)


async def test_a_second_ctrl_c_is_urgent(tmp_path: Path) -> None:
    stopping = Stopping(DataDir(tmp_path))
    with stopping.on_signals():
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(stopping.asked.wait(), 5)
        assert stopping.interrupted
        assert not stopping.urgent.is_set()
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(stopping.urgent.wait(), 5)
    assert stopping.wish is Wish.STOP


async def test_sigterm_is_patient(tmp_path: Path) -> None:
    stopping = Stopping(DataDir(tmp_path))
    with stopping.on_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(stopping.asked.wait(), 5)
        await asyncio.sleep(0)
    assert not stopping.interrupted
    assert not stopping.urgent.is_set()


@pytest.mark.skipif(os.name == "nt", reason="Windows polls the request instead")
async def test_a_restart_is_wished_by_request(tmp_path: Path) -> None:
    stopping = Stopping(DataDir(tmp_path))
    with stopping.on_signals():
        request(DataDir(tmp_path), os.getpid(), Wish.RESTART)
        await asyncio.wait_for(stopping.asked.wait(), 5)
        assert stopping.wish is Wish.RESTART
    stopping.forget_request()
    assert stopping.wish is Wish.STOP


def test_client_listeners_are_bound_and_inherited() -> None:
    settings = Settings(client=ClientSettings(listen=("127.0.0.1:0", "127.0.0.1:0")))
    with client_listeners(settings) as sockets:
        if os.name == "nt":
            assert sockets == ()
            return
        assert len(sockets) == 2
        assert all(one.get_inheritable() for one in sockets)
        with socket.create_connection(sockets[0].getsockname(), timeout=5):
            pass
    assert all(one.fileno() == -1 for one in sockets)


def test_a_busy_port_names_its_flag() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        with (
            pytest.raises(FailedPreconditionError, match="--listen"),
            client_listeners(Settings(client=ClientSettings(listen=(taken,)))),
        ):
            pytest.fail("bound a busy port")
        free = ControlSettings(listen="127.0.0.1:0", join_listen="127.0.0.1:0", console_listen="127.0.0.1:0")
        with pytest.raises(FailedPreconditionError, match="--admin-listen"):
            check_free(Settings(admin=AdminSettings(listen=taken), control=free), founder=True)
        admin = AdminSettings(listen="127.0.0.1:0")
        founder = Settings(admin=admin, control=free.model_copy(update={"join_listen": taken}))
        with pytest.raises(FailedPreconditionError, match=f"{taken}.*--join-listen"):
            check_free(founder, founder=True)
        check_free(founder, founder=False)
