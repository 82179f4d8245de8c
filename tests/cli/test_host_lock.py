from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.supervise import lock as lock_module
from cli.supervise import stopping as stopping_module
from cli.supervise.listeners import ClientSockets, check_free
from cli.supervise.lock import forget_stale, held, holder
from cli.supervise.stopping import Stopping, Wish, request
from swarmplane.datadir import DataDir
from swarmplane.errors import AlreadyExistsError, FailedPreconditionError
from swarmplane.runtime import Runtime, read_runtime, write_runtime
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
    with contextlib.closing(ClientSockets()) as held:
        sockets = held.of(settings)
        if os.name == "nt":
            assert sockets == ()
            return
        assert len(sockets) == 2
        assert all(one.get_inheritable() for one in sockets)
        with socket.create_connection(sockets[0].getsockname(), timeout=5):
            pass
    assert all(one.fileno() == -1 for one in sockets)


@pytest.mark.skipif(os.name == "nt", reason="a sidecar opens its own there")
def test_listeners_outlive_a_restart_unless_the_settings_name_others() -> None:
    one = Settings(client=ClientSettings(listen=("127.0.0.1:0",)))
    two = Settings(client=ClientSettings(listen=("127.0.0.1:0", "127.0.0.1:0")))
    with contextlib.closing(ClientSockets()) as held:
        first = held.of(one)
        assert held.of(one.model_copy(update={"drain_s": 1.0})) == first
        assert first[0].fileno() != -1
        assert len(held.of(two)) == 2
        assert first[0].fileno() == -1


def test_a_busy_port_names_its_flag() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        with (
            pytest.raises(FailedPreconditionError, match="--listen"),
            contextlib.closing(ClientSockets()) as held,
        ):
            held.of(Settings(client=ClientSettings(listen=(taken,))))
        free = ControlSettings(listen="127.0.0.1:0", join_listen="127.0.0.1:0", console_listen="127.0.0.1:0")
        with pytest.raises(FailedPreconditionError, match="--admin-listen"):
            check_free(Settings(admin=AdminSettings(listen=taken), control=free), founder=True)
        admin = AdminSettings(listen="127.0.0.1:0")
        founder = Settings(admin=admin, control=free.model_copy(update={"join_listen": taken}))
        with pytest.raises(FailedPreconditionError, match=f"{taken}.*--join-listen"):
            check_free(founder, founder=True)
        check_free(founder, founder=False)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="hangups are POSIX")
async def test_a_hangup_asks_for_a_reload_and_never_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: SIGHUP left to its default, a stop for every SIGHUP."""
    for terminal in (True, False):
        monkeypatch.setattr(stopping_module, "_has_terminal", lambda terminal=terminal: terminal)
        stopping = Stopping(DataDir(tmp_path))
        with stopping.on_signals():
            signal.raise_signal(signal.SIGHUP)
            await asyncio.wait_for(stopping.hung_up.wait(), 5)
        assert not stopping.asked.is_set()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="hangups are POSIX")
@pytest.mark.parametrize("nohup", [False, True])
async def test_a_closed_terminal_stops_a_host_that_is_not_under_nohup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nohup: bool
) -> None:
    terminal = [True]
    monkeypatch.setattr(stopping_module, "_has_terminal", lambda: terminal[0])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        stopping = Stopping(DataDir(tmp_path))
        with stopping.on_signals():
            terminal[0] = False
            signal.raise_signal(signal.SIGHUP)
            expected = stopping.hung_up if nohup else stopping.asked
            await asyncio.wait_for(expected.wait(), 5)
        assert stopping.asked.is_set() is not nohup
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_directory_that_can_not_be_written_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPreconditionError, match="--data-dir"), held(DataDir(tmp_path / "file" / "x")):
        pytest.fail("held nothing")
    monkeypatch.setattr(lock_module.os, "write", full)
    with pytest.raises(FailedPreconditionError, match="no space left"), held(DataDir(tmp_path)):
        pytest.fail("held on a full disk")


def test_a_data_directory_is_created_for_its_user_alone(tmp_path: Path) -> None:
    root = tmp_path / "made" / "root"
    with held(DataDir(root)):
        assert stat.S_IMODE(root.stat().st_mode) == 0o700 or os.name == "nt"
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    with held(DataDir(tmp_path)):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == before


def test_what_a_killed_host_left_is_removed_and_a_living_ones_kept(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    with held(data_dir):
        write_runtime(data_dir, Runtime(1, "n", "a", "s"))
        forget_stale(data_dir)
        assert read_runtime(data_dir) is not None
    forget_stale(data_dir)
    assert read_runtime(data_dir) is None
