"""One engine through its life: prepared, started, watched, started again."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import Target
from sidecar.engines.command import Place, command_line, environment
from sidecar.engines.health import Answer, Asker
from sidecar.engines.memory import Reservations, refusal
from sidecar.engines.preparation import Prepared, prepare
from sidecar.engines.process import GuardedProcess, last_lines
from sidecar.engines.programs import Places
from sidecar.engines.references import Reference
from sidecar.engines.restarts import Record, describe_exit
from sidecar.engines.status import EngineState, EngineStatus
from sidecar.engines.told import Told, told_by
from swarmplane.clock import Clock
from swarmplane.datadir import write_atomically
from swarmplane.errors import FailedPreconditionError, SwarmError
from swarmplane.inventory import Backend, BackendModel
from swarmplane.settings.schema import EngineSettings

RECHECK_S: Final = 30.0
"""What could not be started for want of a file, a program or memory is looked at again this often."""
_FIRST_POLL_S: Final = 0.05
_POLL_S: Final = 0.25
_QUICK_POLLS: Final = 40
_WATCH_S: Final = 5.0
_SILENT_S: Final = 60.0
"""An engine that answers nothing for this long is ended and started again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all engines of a host share."""

    settings: EngineSettings
    folder: Path
    """Each engine gets a folder of its own in it."""
    registry: BackendRegistry
    clock: Clock
    places: Places
    free_bytes: Callable[[], int]
    reservations: Reservations


class Engine:
    """Keeps one model served, and its backend in the registry true.

    ``changed`` is called after every change of :attr:`status`.
    """

    def __init__(self, reference: Reference, around: Surroundings, changed: Callable[[], None]) -> None:
        self._reference = reference
        self._around = around
        self._changed = changed
        self._folder = around.folder / reference.name
        self._alias = reference.model.replace(",", "-")  # llama-server reads a comma as a second alias
        self._wake = asyncio.Event()
        self._record = Record()
        self._prepared: Prepared | None = None
        self._target: Target | None = None
        self._told = Told()
        self.status = EngineStatus(reference.name, reference.model, log=self._folder / "engine.log")
        self._announce()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Serve until cancelled; then the process is stopped and the backend is gone."""
        try:
            while True:
                await self._around.clock.sleep(await self._attempt(session))
        finally:
            self._around.registry.remove(self.status.name)
            self._show(replace(self.status, state=EngineState.STOPPED, reason="", eta_s=0.0, pid=0))

    async def _attempt(self, session: aiohttp.ClientSession) -> float:
        """Start it once and see it to its end; seconds until it should be tried again."""
        name, clock = self.status.name, self._around.clock
        self._set(EngineState.STARTING)
        try:
            prepared = await self._prepare()
        except SwarmError as error:
            log.warning("engine.refused", engine=name, reason=error.message)
            self._set(EngineState.FAILED, error.message, eta_s=RECHECK_S)
            return RECHECK_S
        started_s = clock.now_s()
        try:
            reason = await self._serve(prepared, session)
        except (SwarmError, OSError) as error:
            reason = f"it can't be started: {error}"
        finally:
            self._around.reservations.release(name)
            self._target = None
        self._record = self._record.ended(clock.now_s() - started_s)
        state = EngineState.FAILED if self._record.hopeless else EngineState.BACKING_OFF
        lines = await asyncio.to_thread(last_lines, self._log_file)
        delay_s = self._record.delay_s
        log.warning(
            "engine.ended",
            engine=name,
            reason=reason,
            exit_code=self.status.exit_code,
            retry_in_s=delay_s,
        )
        status = replace(self.status, state=state, reason=reason, eta_s=delay_s, pid=0)
        self._show(replace(status, last_lines=lines, restarts=self._record.restarts))
        return delay_s

    async def _prepare(self) -> Prepared:
        """Size it, and promise it its memory.

        Raises:
            SwarmError: It can't be served as things are.
        """
        around, name = self._around, self.status.name
        self._prepared = prepared = await prepare(self._reference, around.settings, around.places)
        free = around.free_bytes() - around.reservations.besides(name)
        reason = refusal(prepared.needed, prepared.shape, free, around.settings.memory_headroom_ratio)
        if reason:
            raise FailedPreconditionError(reason)
        around.reservations.promise(name, prepared.needed)
        return prepared

    async def _serve(self, prepared: Prepared, session: aiohttp.ClientSession) -> str:
        """Run one process to its end; why it ended, for people."""
        key, port = secrets.token_urlsafe(32), _free_port()
        place = Place(prepared.model, self._alias, port, self._folder / "api-key")
        await asyncio.to_thread(write_atomically, place.key_file, key.encode("ascii"))
        process = await GuardedProcess.start(
            command_line(prepared.program, prepared.shape, place),
            env=_environment(prepared, key),
            folder=self._folder,
            log=self._log_file,
        )
        self._target = Target(
            name=self.status.name,
            kind=prepared.program.kind,
            host="127.0.0.1",
            port=port,
            headers=((b"authorization", f"Bearer {key}".encode("ascii")),),
            slots=prepared.shape.slots,
        )
        self._wake.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(process.follow(self._wake.set), name=f"engine {self.status.name}")
            try:
                self._show(replace(self.status, kind=prepared.program.kind, pid=process.pid))
                reason = await self._watch(process, Asker(session, prepared.program, port, self._alias, key))
            finally:
                if self.status.state is EngineState.READY:
                    self._set(EngineState.STARTING, "it is being ended")
                await process.stop(self._around.settings.stop_timeout_s)
        return reason

    async def _watch(self, process: GuardedProcess, asker: Asker) -> str:
        """Follow it from its start to its end, or until it has to be ended; why, for people."""
        reason = await self._until_ready(process, asker) or await self._until_silent(process, asker)
        if process.exit is not None:
            self.status = replace(self.status, exit_code=process.exit.code)
            return describe_exit(process.exit.code)
        return reason

    async def _until_ready(self, process: GuardedProcess, asker: Asker) -> str:
        limit_s = self._around.settings.start_timeout_s
        ends_s = self._around.clock.now_s() + limit_s
        polls = 0
        while process.exit is None:
            answer = await asker.first()
            if answer is Answer.READY:
                return ""
            if answer is Answer.STRANGER:
                return "another program took its port"
            if self._around.clock.now_s() > ends_s:
                return f"it was not ready within {limit_s:g} s"
            if answer is Answer.LOADING:
                self._set(EngineState.LOADING)
            await self._pause(_FIRST_POLL_S if polls < _QUICK_POLLS else _POLL_S)
            polls += 1
        return "it ended while it started"

    async def _until_silent(self, process: GuardedProcess, asker: Asker) -> str:
        clock = self._around.clock
        heard_s = clock.now_s()
        if self._prepared is not None:
            self._around.reservations.settle(self.status.name, self._prepared.needed)
        self._told = await told_by(asker)
        if self._target is not None:
            self._target = replace(self._target, dialects=self._told.dialects)
        log.info("engine.ready", engine=self.status.name, kind=self.status.kind, pid=process.pid)
        self._set(EngineState.READY)
        while process.exit is None:
            await self._pause(_WATCH_S)
            if process.exit is not None:
                break
            if await asker.again() is Answer.READY:
                heard_s = clock.now_s()
                self._set(EngineState.READY)
            elif clock.now_s() - heard_s > _SILENT_S:
                return f"it did not answer for {_SILENT_S:g} s"
            else:
                self._set(EngineState.STARTING, "it does not answer now")
        return "it ended"

    async def _pause(self, seconds: float) -> None:
        """Wait, but not on after the process has ended or somebody asked for a check."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    @property
    def _log_file(self) -> Path:
        return self._folder / "engine.log"

    def _set(self, state: EngineState, reason: str = "", *, eta_s: float = 0.0) -> None:
        self._show(replace(self.status, state=state, reason=reason, eta_s=eta_s))

    def _show(self, status: EngineStatus) -> None:
        if status == self.status:
            return
        self.status = status
        if status.state is not EngineState.STOPPED:
            self._announce()
        self._changed()

    def _announce(self) -> None:
        """Put the backend as it is now. From the start it is known, so that clients are told to wait."""
        status, prepared = self.status, self._prepared
        failed = status.state is EngineState.FAILED
        ready = status.state is EngineState.READY
        backend = Backend(
            name=status.name,
            kind=status.kind or "engine",
            healthy=not failed,
            reason=status.reason,
            models=(_model(self._alias, status, prepared, self._told),),
            slots=0 if prepared is None else prepared.shape.slots,
        )
        target = self._target if ready else None
        self._around.registry.announce(backend, target, self._wake.set)


def _model(alias: str, status: EngineStatus, prepared: Prepared | None, told: Told) -> BackendModel:
    model = BackendModel(
        name=alias,
        canonical=None if alias == status.model else status.model,
        state=status.state.model_state,
    )
    if prepared is None:
        return model
    facts = prepared.facts
    can = [*(["chat", *told.senses] if facts.has_chat_template else []), "completion"]
    if not prepared.program.serial:  # it makes text or embeddings, never both
        can.append("embedding")
    return replace(
        model,
        context_length=prepared.shape.context,
        size_bytes=facts.weights_bytes,
        quantization=facts.quantization,
        capabilities=("embedding",) if facts.embedding_only else tuple(can),
    )


def _environment(prepared: Prepared, key: str) -> dict[str, str]:
    """llama-cpp-python's server reads no key file, and arguments are public."""
    kept = environment(os.environ)
    return {**kept, "API_KEY": key} if prepared.program.serial else kept


def _free_port() -> int:
    """A port that nobody has now. Should somebody take it first, the engine ends and gets another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
