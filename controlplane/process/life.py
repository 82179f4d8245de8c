"""One life of an instance: open, found or resume, bind, serve, say so, and stop in order."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from controlplane.process.parts import Parts, build
from controlplane.process.reload import Reloader
from controlplane.process.storing import OpenStore, open_store
from controlplane.process.telling import Telling
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from controlplane.services.control import ControlPolicy
from controlplane.services.founding import ADMIN_NAME, open_or_found, secret_is_private
from controlplane.services.own_credentials import (
    FOUNDER_CONTEXT,
    own_credential,
    restore_admin_credential,
)
from controlplane.settings import FoundingPolicy, ListenPolicy, local_address
from controlplane.store.port import Store
from swarmplane.clock import SystemClock
from swarmplane.credentials.names import user_subject
from swarmplane.datadir import DataDir, make_private
from swarmplane.errors import FailedPreconditionError, SwarmError, UnavailableError
from swarmplane.identity import is_joined
from swarmplane.lifeline import on_hangup, on_signals, watch_lifeline
from swarmplane.listening import bound_address, listening_socket
from swarmplane.runtime import remove_ready, write_ready
from swarmplane.settings.schema import Settings

STOP_GRACE_S: Final = 0.5
"""Calls in flight get this long; sidecars' streams are ended by the control service before."""
LOAD_S: Final = 20.0
WAIT_S: Final = 300.0
"""For an etcd that is out of reach, or has no majority."""
WAIT_AS_CHILD_S: Final = 40.0
"""The same as a child of a host that has nothing to serve by; well below what its parent waits."""
log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bound:
    """Listeners for HTTP."""

    console: socket.socket
    metrics: socket.socket | None
    """For metrics alone, where one is wanted."""

    @classmethod
    def of(cls, listening: ListenPolicy, closing: AsyncExitStack) -> Bound:
        """Listen until ``closing`` is closed.

        Raises:
            UnavailableError: A port is busy; says by whom and which flag chooses another.
        """
        console = closing.enter_context(listening_socket(listening.console, flag="--console-listen"))
        if listening.metrics is None:
            return cls(console, None)
        flag = "--control-metrics-listen"
        return cls(console, closing.enter_context(listening_socket(listening.metrics, flag=flag)))


async def live(
    settings: Settings,
    root: Path,
    *,
    lifeline_fd: int | None = None,
    reloader: Reloader | None = None,
) -> None:
    """Run an instance until a signal or the end of the lifeline. ``reloader`` acts at SIGHUP, in a thread.

    Raises:
        SwarmError: It could not start; the message says what to do.
        ExceptionGroup: A part failed.
    """
    data_dir, clock, stop = DataDir(root), SystemClock(), asyncio.Event()
    loop = asyncio.get_running_loop()
    opening = _Interruptible(stop)
    on_signals(loop, opening.stop)
    reloader = reloader or Reloader(settings, lambda: settings)
    on_hangup(loop, partial(loop.run_in_executor, None, reloader.hung_up))
    if lifeline_fd is not None:
        watch_lifeline(loop, lifeline_fd, opening.stop)
    async with AsyncExitStack() as closing:
        make_private(data_dir.control_plane)
        founding, listening = FoundingPolicy.of(settings), ListenPolicy.of(settings)
        patience_s = _patience_s(data_dir, lifeline_fd)
        opened = await opening.entered(closing, open_store(settings, data_dir, clock, patience_s=patience_s))
        if opened is None:
            return
        authority = await open_or_found(
            opened.store,
            data_dir,
            swarm_name=founding.swarm_name,
            unix_s=time.time,
            secret_file=founding.secret_file,
            shared=opened.etcd is not None,
        )
        authority = replace(authority, certificate_life_s=settings.control.certificate_life_s)
        if not secret_is_private(founding.secret_file or data_dir.swarm_secret):
            log.warning("swarm_secret.exposed", hint="others can read the secret's file; chmod 600 it")
        credential = await asyncio.to_thread(own_credential, authority, data_dir, time.time())
        await _restore_admin(opened.store, authority, data_dir)
        bound = Bound.of(listening, closing)
        parts = build(settings, listening, data_dir, opened, authority, credential, clock)
        reloader.subscribe(lambda now: parts.control.adopt(ControlPolicy.of(now)))
        parts.console.reload_by(reloader.reload)
        closing.callback(remove_ready, data_dir, "controlplane")
        if bound.metrics is not None:
            await closing.enter_async_context(parts.console.serving_metrics(bound.metrics))
        await _serve(parts, data_dir, bound, stop)
    log.info("controlplane.stopped")


class _Interruptible:
    """Enters what may take minutes; a stop that is asked for meanwhile ends the wait."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._waiting: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Somebody asks for a stop."""
        self._stop.set()
        if self._waiting is not None:
            self._waiting.reschedule(0.0)

    async def entered(
        self, closing: AsyncExitStack, store: AbstractAsyncContextManager[OpenStore]
    ) -> OpenStore | None:
        """``store``, open until ``closing`` is closed; None: a stop was asked for first."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await closing.enter_async_context(store)
        except TimeoutError:
            if not self._stop.is_set():
                raise
            log.info("controlplane.stopped", before="its store could be opened")
            return None
        finally:
            self._waiting = None


def _patience_s(data_dir: DataDir, lifeline_fd: int | None) -> float:
    """How long to wait for a store that is out of reach.

    A process of ``swarmctl up`` says soon that it can't serve: its host serves what it knows meanwhile, if it
    knows something, and starts it again.
    """
    if lifeline_fd is None:
        return WAIT_S
    return 0.0 if is_joined(data_dir) else WAIT_AS_CHILD_S


async def _restore_admin(store: Store, authority: SwarmAuthority, data_dir: DataDir) -> None:
    """Nobody is locked out of a swarm whose founder was logged out of; a denied admin stays denied."""
    try:
        await Callers(store, authority.swarm).identify(user_subject(ADMIN_NAME, authority.swarm))
    except SwarmError:
        return
    if await asyncio.to_thread(restore_admin_credential, authority, data_dir, ADMIN_NAME, time.time()):
        log.info("admin_credential.restored", context=FOUNDER_CONTEXT)


async def _serve(parts: Parts, data_dir: DataDir, bound: Bound, stop: asyncio.Event) -> None:
    async with parts.console.serving(bound.console), asyncio.TaskGroup() as group:
        telling = Telling(
            parts.control, parts.authority, data_dir, local_address(parts.servers.control_bound)
        )
        runs = (*parts.runs, ("telling", telling.run))
        tasks = [group.create_task(run(), name=name) for name, run in runs]
        await _until_loaded(parts)
        _check_not_removed(parts)
        await parts.servers.start(parts.services)
        try:
            await telling.once()
            await _say_ready(parts, data_dir, bound)
            with parts.denials.when_denied(parts.certificate.subject.id, stop.set):
                await stop.wait()
            _check_not_removed(parts)
            await asyncio.to_thread(remove_ready, data_dir, "controlplane")
        finally:
            # First the streams, in a way that says why; then whatever still runs.
            await parts.control.drain()
            await parts.servers.stop(STOP_GRACE_S)
            for task in tasks:
                task.cancel()


def _check_not_removed(parts: Parts) -> None:
    if parts.certificate.subject.id in parts.denials:
        raise FailedPreconditionError(
            "this instance was removed from its swarm, with the node on this host; to make it one again: "
            "swarmctl leave --purge --force, then join with a token of role instance"
        )


async def _until_loaded(parts: Parts) -> None:
    try:
        async with asyncio.timeout(LOAD_S):
            await parts.denials.loaded.wait()
    except TimeoutError as error:
        message = f"the store did not answer within {LOAD_S:g} s"
        raise UnavailableError(message) from error


async def _say_ready(parts: Parts, data_dir: DataDir, bound: Bound) -> None:
    document = {
        "pid": os.getpid(),
        "instance_id": parts.instance_id,
        "swarm": parts.authority.swarm,
        "swarm_name": parts.authority.name,
        "control": str(parts.servers.control_bound),
        "join": str(parts.servers.join_bound),
        "console": str(bound_address(bound.console)),
        "metrics": str(bound_address(bound.metrics)) if bound.metrics is not None else "",
    }
    await asyncio.to_thread(write_ready, data_dir, "controlplane", document)
    log.info("controlplane.ready", version=version("swarmplane"), **document)
