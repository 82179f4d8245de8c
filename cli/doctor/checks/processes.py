"""Whether this host runs and its processes answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from swarmplane.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Running:
    """Of ``swarmctl up``."""

    pid: int | None
    ready: bool
    draining: bool


def running(host: ExaminedHost) -> Running:
    """As lock and ``runtime.json`` say."""
    runtime = host.runtime
    return Running(host.pid, runtime is not None, runtime is not None and runtime.draining)


def judge_running(found: Running) -> Verdict:
    """A host that does not run serves nobody."""
    if found.pid is None:
        return bad("swarmctl up does not run here", "start it: swarmctl up -d")
    if not found.ready:
        return bad(
            f"pid {found.pid} runs, and is not ready yet",
            "wait, or see why: swarmctl logs",
            severity="warning",
        )
    if found.draining:
        return bad(
            "it drains: it stops once its requests are done", "start it again: swarmctl up -d", "warning"
        )
    return good(f"pid {found.pid}")


def judge_settings(problem: str) -> Verdict:
    """Settings that are wrong keep the next start from happening."""
    if problem:
        return bad(
            problem, "correct config.toml or the environment; swarmctl config check shows all mistakes"
        )
    return good("they can be read")


def judge_answer(problem: str) -> Verdict:
    """A process that lives but does not answer hangs."""
    if problem:
        return bad(problem, "see why: swarmctl logs; then: swarmctl restart")
    return good("it answers")


def judge_ready(problem: str) -> Verdict:
    """A sidecar without a table refuses everything that is not served here."""
    if problem:
        return bad(problem, "it waits for its first route table: see control.reachable; then swarmctl logs")
    return good("it takes requests")


def _answers(listener: str, path: str) -> Callable[[ExaminedHost], str]:
    def gather(host: ExaminedHost) -> str:
        try:
            answer = asked(host, listener, path)
        except UnavailableError as error:
            return error.message
        if isinstance(refusal := answer.get("error"), dict):
            return str(refusal.get("message", "it refuses"))
        reasons = answer.get("reasons") or answer.get("reason") or ()
        return reasons if isinstance(reasons, str) else "; ".join(map(str, reasons))

    return gather


def _client(host: ExaminedHost) -> str:
    if host.url("client").startswith("https:"):
        raise SkippedError("it speaks TLS, with a certificate that this command need not trust")
    return _answers("client", "/healthz")(host)


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("host.running", "this host runs", Source(gather=running), judge_running, "error"),
    Check(
        "host.settings", "settings are right", Source(gather=lambda host: host.settings_problem),
        judge_settings, "error",
    ),
    Check(
        "host.sidecar", "the sidecar answers", Source(gather=_answers("admin", "/healthz")),
        judge_answer, "error",
    ),
    Check(
        "host.ready", "the sidecar takes requests", Source(gather=_answers("admin", "/readyz")),
        judge_ready, "error",
    ),
    Check("host.client", "the client listener answers", Source(gather=_client), judge_answer, "error"),
    Check(
        "host.controlplane", "the control plane's process answers",
        Source(gather=_answers("console", "/healthz")), judge_answer, "error",
    ),
)  # fmt: skip
