"""Who may join the swarm."""

from __future__ import annotations

from typing import Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost


def _open(host: ExaminedHost) -> bool:
    """As this host's table says, which the control plane keeps fresh."""
    if host.record is None:
        raise SkippedError("this host is in no swarm")
    return asked(host, "admin", "/routes").get("open") is True


def judge_openness(is_open: bool) -> Verdict:
    """Every host of the network may join an open swarm, and sees requests then."""
    if not is_open:
        return good("hosts need a token")
    return bad("every host that reaches it joins without a token", "swarmctl enrolment close")


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("trust.open", "joining needs a token", Source(gather=_open), judge_openness),
)
