"""How long an elected holder may act (PROTOCOL section 8): by its own clock, from when it asked."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ElectionPolicy:
    """Figures of elections, in seconds."""

    ttl_s: float = 3.0
    """Time that the holder's lease has after each renewal."""
    margin_s: float = 0.3
    """The holder stops so much earlier than its lease could end: clocks do not run alike."""
    renewals: int = 3
    """Renewals within one ``ttl_s``."""
    outage_s: float = 5.0
    """A store that did not answer for so long was out of reach; electing another leader takes it less."""

    @property
    def every_s(self) -> float:
        """Time between two renewals."""
        return self.ttl_s / self.renewals


@dataclass(frozen=True, slots=True)
class Tenure:
    """What a holder was granted."""

    revision: int
    """Creation of the election's key: another holder's key has another one."""
    epoch: int
    lease: int
    sent_s: float
    """When the last renewal that was acknowledged was asked for; the lease can't have been renewed before."""


def renewed(tenure: Tenure, sent_s: float) -> Tenure:
    """``tenure`` after a renewal asked for at ``sent_s`` was acknowledged; late answers do no harm."""
    return replace(tenure, sent_s=max(tenure.sent_s, sent_s))


def ends_s(tenure: Tenure, policy: ElectionPolicy) -> float:
    """From when on its holder must not act, unless it is renewed."""
    return tenure.sent_s + policy.ttl_s - policy.margin_s


def holds(tenure: Tenure | None, now_s: float, policy: ElectionPolicy) -> bool:
    """Whether the holder of ``tenure`` may act at ``now_s``."""
    return tenure is not None and now_s < ends_s(tenure, policy)
