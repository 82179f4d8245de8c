"""What is sent again, or twice, holds a unit of the retry budget while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.attempts import budget_free

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane


def retry_free(plane: DataPlane) -> bool:
    """Whether one more may run now."""
    policy = plane.policy
    return budget_free(
        plane.retrying, len(plane.active), least=policy.retry_budget_min, ratio=policy.retry_budget_ratio
    )


def end_retry(plane: DataPlane) -> None:
    """Give a unit back; the first of those that wait for one goes on."""
    plane.retrying -= 1
    for waiting in plane.retry_line:
        waiting.resume()
        break
