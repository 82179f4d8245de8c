"""Which cluster answers and how far it has come, so that another one in its place is noticed."""

from __future__ import annotations

import structlog

from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import StoreReplacedError

log = structlog.get_logger(__name__)


class Standing:
    """What all answers said about the store.

    A cluster whose data was wiped keeps its id if it is started with the same flags: only its revision,
    which goes back, gives it away.
    """

    def __init__(self) -> None:
        self.revision = 0
        """The highest that was seen."""
        self._cluster = 0
        self._replaced = ""

    @property
    def replaced(self) -> StoreReplacedError | None:
        """Set for good once an answer was not from the store that was opened."""
        return StoreReplacedError(self._replaced) if self._replaced else None

    def note(self, header: pb.ResponseHeader, *, at_least: int = 0) -> None:
        """Take note of an answer.

        Args:
            header: Of the answer.
            at_least: A revision that was acknowledged before a linearizable question was asked.
        """
        if not self._cluster:
            self._cluster = header.cluster_id
        if header.cluster_id != self._cluster:
            self._found("Another etcd cluster answers than the one that was opened: check the endpoints.")
        elif header.revision < at_least:
            self._found("etcd has lost revisions that it had acknowledged: it was wiped or restored.")
        else:
            self.revision = max(self.revision, header.revision)

    def _found(self, what: str) -> None:
        if not self._replaced:
            self._replaced = what
            log.error("etcd.replaced", reason=what)
