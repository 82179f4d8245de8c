"""Certificates and the clock they are judged by."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from cli.output import ago
from swarmplane.contexts import current_name
from swarmplane.credentials.certificate import read_certificate
from swarmplane.credentials.files import CERTIFICATE, KEY, credential_exists

SKEW_S: Final = 30.0
LARGE_SKEW_S: Final = 3_600.0
_OVERDUE: Final = 0.5
"""Renewal starts with two thirds of a life left; with less than half of it left, it does not succeed."""
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Life:
    """How long a certificate has left."""

    what: str
    left_s: float
    lifetime_s: float
    renews: bool = True
    """By itself while its process runs; a person's does when it is used."""


@dataclass(frozen=True, slots=True)
class Skew:
    """This clock against the control plane's."""

    ahead_s: float
    """Negative: this one is behind."""
    measured_s: float
    """Ago; 0: now."""


def _lives(host: ExaminedHost) -> tuple[Life, ...]:
    places = [
        ("this node's", host.data_dir.node, True),
        ("the control plane's", host.data_dir.control_plane, True),
    ]
    context = host.called.context or current_name(host.data_dir)
    if context:
        places.append((f"the context {context}'s", host.data_dir.context(context), False))
    found = [
        _life(what, directory, renews=renews)
        for what, directory, renews in places
        if credential_exists(directory)
    ]
    if not found:
        raise SkippedError("this host has no certificate: it is in no swarm")
    return tuple(found)


def _life(what: str, directory: Path, *, renews: bool) -> Life:
    facts = read_certificate((directory / CERTIFICATE).read_bytes())
    return Life(what, facts.not_after_s - time.time(), facts.lifetime_s, renews)


def judge_lives(lives: tuple[Life, ...]) -> Verdict:
    """A certificate that ended is refused by everybody."""
    over = [one for one in lives if one.left_s <= 0]
    if over:
        return bad(
            "; ".join(f"{one.what} ended {ago(-one.left_s)} ago" for one in over),
            "swarmctl up renews those of this host once a control plane answers; a person logs in again: "
            "swarmctl login ADDRESS",
            "error",
        )
    late = [one for one in lives if one.renews and one.left_s < one.lifetime_s * _OVERDUE]
    if late:
        return bad(
            "; ".join(f"{one.what} ends in {ago(one.left_s)} and was not renewed in time" for one in late),
            "keep this host running (swarmctl up -d) and its control plane in reach (control.reachable)",
        )
    return good("; ".join(f"{one.what} has {ago(one.left_s)} left" for one in lives))


def _skew(host: ExaminedHost) -> Skew:
    if host.record is None:
        raise SkippedError("this host is in no swarm")
    if host.data_dir.control_plane.is_dir():
        raise SkippedError("the control plane is on this machine")
    if host.runtime is not None:
        ahead_s = asked(host, "admin", "/control").get("clock_ahead_s")
        if isinstance(ahead_s, float):
            return Skew(ahead_s, 0.0)
    return skew_of(host.data_dir.node / CERTIFICATE)


def skew_of(path: Path) -> Skew:
    """What a certificate tells: it says when it was issued, and its file when it came here. It blocks."""
    facts = read_certificate(path.read_bytes())
    written_s = path.stat().st_mtime
    return Skew(written_s - (facts.not_after_s - facts.lifetime_s), max(0.0, time.time() - written_s))


def judge_skew(skew: Skew) -> Verdict:
    """Certificates end early or late by it, and logs of two hosts don't fit together."""
    size_s = abs(skew.ahead_s)
    when = (
        f"as of {ago(skew.measured_s)} ago, when the certificate was issued"
        if skew.measured_s
        else "as the control stream measured it"
    )
    if size_s <= SKEW_S:
        return good(f"within {size_s:.0f} s of the control plane's, {when}")
    return bad(
        f"{ago(size_s)} {'ahead of' if skew.ahead_s > 0 else 'behind'} the control plane's, {when}",
        "let both machines keep time (timedatectl set-ntp true; macOS and Windows: set the time by itself)",
        "error" if size_s > LARGE_SKEW_S else "warning",
    )


def _open_keys(host: ExaminedHost) -> tuple[str, ...]:
    """Private keys that other users of this machine can read."""
    import os

    if os.name == "nt":
        raise SkippedError("Windows keeps rights another way")
    directories = (host.data_dir.node, host.data_dir.control_plane, *host.data_dir.root.glob("contexts/*"))
    found = [one for one in (*(d / KEY for d in directories), host.data_dir.swarm_secret) if one.exists()]
    if not found:
        raise SkippedError("this host keeps no keys yet")
    return tuple(str(one) for one in found if one.stat().st_mode & _OTHERS)


def judge_keys(readable: tuple[str, ...]) -> Verdict:
    """Who reads a key is this host, or its swarm."""
    if not readable:
        return good("readable by their owner alone")
    return bad(
        f"others on this machine can read {', '.join(readable)}", f"chmod 600 {' '.join(readable)}", "error"
    )


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("trust.certificates", "certificates have time left", Source(gather=_lives), judge_lives),
    Check("trust.clock", "clocks agree", Source(gather=_skew), judge_skew),
    Check("trust.keys", "private keys are private", Source(gather=_open_keys), judge_keys),
)
