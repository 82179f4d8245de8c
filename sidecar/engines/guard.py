"""Stands between the sidecar and one engine, so that the engine never outlives the sidecar.

Run by path, isolated, with the standard library alone (it starts in some 20 ms):

    python -I -S guard.py --log FILE --log-bytes N -- PROGRAM ARGUMENT...

Standard input is the lifeline: ``stop SECONDS`` asks the engine to end and kills it after that time; end
of file, which also comes when the sidecar is killed, kills it at once. Standard output tells ``started PID``
and ``exited CODE`` (negative: the signal). What the engine prints goes to the log, which is kept below ``N``
bytes with one older file beside it.

The engine runs in a session of its own and its whole process group is killed. If this process itself is
killed: Linux ends the engine (PR_SET_PDEATHSIG, set after the fork by a second start of this file, because
``preexec_fn`` is not safe under threads); Windows closes the job object that everything runs in; elsewhere
the sidecar kills the group, and an engine of ours ends when its standard input closes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

_TERM_S: Final = 5.0
_FLUSH_S: Final = 2.0
_PR_SET_PDEATHSIG: Final = 1
_CANNOT_START: Final = 127
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class Log:
    """A file that never grows beyond ``limit`` bytes; the last generation stays as ``.1``."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file: BinaryIO | None = _opened(path)
        self._size = path.stat().st_size

    def write(self, content: bytes) -> None:
        """Append. A full disk loses lines; it never stops the engine."""
        try:
            if self._size + len(content) > self._limit:
                self._rotate()
            if self._file is not None:
                self._file.write(content)
                self._size += len(content)
        except OSError:
            return

    def _rotate(self) -> None:
        if self._file is not None:
            self._file.close()  # Windows can't rename an open file
        self._file = None
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = _opened(self._path)
        self._size = 0


def _opened(path: Path) -> BinaryIO:
    """For this user alone: engines print what they please, prompts among it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o600), "ab", 0)


class Guard:
    """One engine and the ways it ends."""

    def __init__(self, command: list[str], log: Log) -> None:
        self._log = log
        self._stopping = False
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        else:
            command = [sys.executable, "-I", "-S", __file__, "--exec", str(os.getpid()), "--", *command]
        self._engine = subprocess.Popen(  # noqa: S603 - the command is the sidecar's own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
            creationflags=flags,
        )

    def run(self) -> int:
        """Wait for the end; the engine's exit code."""
        tell(f"started {self._engine.pid}")
        threading.Thread(target=self._follow_lifeline, daemon=True).start()
        pump = threading.Thread(target=self._pump, daemon=True)
        pump.start()
        code = self._engine.wait()
        self.kill()  # whatever it started
        pump.join(_FLUSH_S)
        tell(f"exited {code}")
        return code

    def stop(self, grace_s: float) -> None:
        """Ask it to end, and kill it ``grace_s`` later."""
        if self._stopping:
            return
        self._stopping = True
        timer = threading.Timer(grace_s, self.kill)
        timer.daemon = True
        timer.start()
        if sys.platform == "win32":
            # An engine of ours ends when its input closes; llama-server ends at a break event, where the
            # console delivers it. The timer covers the rest.
            if self._engine.stdin is not None:
                self._engine.stdin.close()
            self._engine.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all it started, now."""
        if sys.platform == "win32":
            self._engine.kill()  # what it started ends with the job, when this process does
        else:
            self._signal_group(signal.SIGKILL)

    if sys.platform != "win32":

        def _signal_group(self, number: int) -> None:
            try:
                os.killpg(self._engine.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
                return

    def _follow_lifeline(self) -> None:
        pending = b""
        while True:
            try:
                content = os.read(0, 4096)
            except OSError:
                content = b""
            if not content:
                self.kill()
                return
            *lines, pending = (pending + content).split(b"\n")
            for line in lines:
                verb, _, seconds = line.decode("ascii", "replace").partition(" ")
                if verb == "stop":
                    self.stop(int(seconds) if seconds.isdigit() else _TERM_S)

    def _pump(self) -> None:
        output = self._engine.stdout
        while output is not None and (content := os.read(output.fileno(), 1 << 16)):
            self._log.write(content)


def tell(line: str) -> None:
    """One line to whoever reads our output, if anybody does."""
    try:
        os.write(1, f"{line}\n".encode())
    except OSError:
        return


def become(guard: int, command: list[str]) -> int:
    """Turn this process into the engine, bound to the life of the guard where the kernel can do that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != guard:  # it died before it was bound
            return _CANNOT_START
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        tell(f"{command[0]} can't be started: {error.strerror}")
    return _CANNOT_START


def enter_job() -> None:
    """Put this process, and so all it starts, into a job that ends with it. No test runs this."""
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        class Limits(ctypes.Structure):
            """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

            _fields_ = (
                ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
                ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
                ("LimitFlags", wintypes.DWORD),
                ("MinimumWorkingSetSize", ctypes.c_size_t),
                ("MaximumWorkingSetSize", ctypes.c_size_t),
                ("ActiveProcessLimit", wintypes.DWORD),
                ("Affinity", ctypes.c_size_t),
                ("PriorityClass", wintypes.DWORD),
                ("SchedulingClass", wintypes.DWORD),
                ("IoCounters", ctypes.c_ulonglong * 6),
                ("ProcessMemoryLimit", ctypes.c_size_t),
                ("JobMemoryLimit", ctypes.c_size_t),
                ("PeakProcessMemoryUsed", ctypes.c_size_t),
                ("PeakJobMemoryUsed", ctypes.c_size_t),
            )

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = wintypes.HANDLE
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        job = wintypes.HANDLE(kernel.CreateJobObjectW(None, None))
        limits = Limits(LimitFlags=0x2000)  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        # 9: JobObjectExtendedLimitInformation. The handle is never closed: the end of this process does it.
        kernel.SetInformationJobObject(job, 9, ctypes.byref(limits), ctypes.sizeof(limits))
        kernel.AssignProcessToJobObject(job, wintypes.HANDLE(kernel.GetCurrentProcess()))


def main(arguments: list[str]) -> int:
    """See the module."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    if options[0] == "--exec":
        return become(int(options[1]), command)
    enter_job()
    log = Log(Path(options[options.index("--log") + 1]), int(options[options.index("--log-bytes") + 1]))
    guard = Guard(command, log)

    def terminate(_number: int, _frame: FrameType | None) -> None:
        guard.stop(_TERM_S)

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """Ctrl-C is the sidecar's to handle; a handler, unlike SIG_IGN, is not inherited by the engine."""

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, ignore)
    code = guard.run()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
