"""One request as telemetry sees it: a row that is made once and filled again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.telemetry.trace import Trace

COMPLETED: Final = "completed"
"""The answer was sent whole."""
CANCELLED: Final = "cancelled"
"""The client left before its answer was whole."""
BROKEN: Final = "broken"
"""The answer ended in an error after its first byte."""
REJECTED: Final = "rejected"
"""The sidecar answered with an error of its own."""
OUTCOMES: Final = (COMPLETED, CANCELLED, BROKEN, REJECTED)

CONNECT_FAILED: Final = "connect_failed"
CONNECTION_LOST: Final = "connection_lost"
FIRST_BYTE_TIMEOUT: Final = "first_byte_timeout"
STALLED: Final = "stalled"
TRUNCATED: Final = "truncated"
DEADLINE: Final = "deadline"
BAD_STATUS: Final = "status"
CLIENT_STALLED: Final = "client_stalled"
STOPPED: Final = "stopped"
"""Cut off, because this process ended."""
MALFORMED: Final = "malformed"
"""The request could not be read; nobody was asked."""
FAILURES: Final = (
    CONNECT_FAILED,
    CONNECTION_LOST,
    FIRST_BYTE_TIMEOUT,
    STALLED,
    TRUNCATED,
    DEADLINE,
    BAD_STATUS,
    CLIENT_STALLED,
    STOPPED,
    MALFORMED,
)


class Record:
    """Facts about one request that ended.

    Who claims a row calls :meth:`begin`, which makes everything that it is not given "not known", and then
    sets what is. Values are stored as they are: bytes stay bytes and nothing is formatted here. A whole
    record takes about 1.5 microseconds.

    Times are ``time.monotonic()`` seconds; 0 where the moment never came.
    """

    __slots__ = (
        "asked",
        "attempts",
        "backend",
        "bytes_in",
        "bytes_out",
        "cached",
        "client",
        "code",
        "ended_s",
        "endpoint",
        "failure",
        "first_byte_s",
        "hedges",
        "key",
        "method",
        "model",
        "moves",
        "node",
        "opening",
        "origin",
        "outcome",
        "path",
        "planned_s",
        "priority",
        "prompt_tokens",
        "provider",
        "queue_s",
        "replays",
        "request_id",
        "retries",
        "route_version",
        "sent_s",
        "stale",
        "started_s",
        "status",
        "streamed",
        "tail",
        "trace",
    )

    method: bytes
    path: bytes
    """Without its query, which may hold a credential."""
    request_id: bytes
    outcome: str
    """One of :data:`OUTCOMES`."""
    started_s: float
    """The request was whole."""
    ended_s: float
    """Its last byte was written, or nobody waits for it any more."""
    planned_s: float
    """It was known whom to ask."""
    sent_s: float
    """The last attempt was sent."""
    first_byte_s: float
    """The first byte of the answer's body went to the client."""
    queue_s: float
    """Seconds that it waited for a slot at its owner."""
    status: int
    """HTTP status sent; 0: the client left before any."""
    code: str
    """Slug of our own error; empty where the answer is a backend's."""
    failure: str
    """How the last attempt that failed did so, one of :data:`FAILURES`; empty: none did."""
    asked: str
    """Name in the request's body."""
    model: str
    """Canonical name; empty where nobody knows the model. Never what a client made up: it is a label."""
    node: str
    """Name of the node that served."""
    backend: str
    """Name of its backend, where it is this host's."""
    endpoint: str
    provider: str
    """Kind of that backend, as ``gen_ai.provider.name``."""
    origin: str
    """Name or id of the node at which it entered; empty: here, from a client."""
    client: str
    """The client's address."""
    key: str
    """Id of the API key, never the key."""
    priority: str
    route_version: str
    attempts: int
    """Endpoints asked."""
    retries: int
    moves: int
    replays: int
    hedges: int
    """Second copies that were sent beside an attempt that was late."""
    streamed: bool
    stale: bool
    """The route table came from disk."""
    bytes_in: int
    bytes_out: int
    cached: int
    """Leading blocks of the prompt that were believed to be cached at the endpoint."""
    prompt_tokens: int
    """Of all of the prompt, as was guessed by its size; 0 where nothing was believed."""
    tail: bytes
    """The last bytes of the answer's body, for its usage (see :mod:`sidecar.telemetry.usage`)."""
    opening: bytes
    """The first bytes of a streamed answer: Anthropic's streams count the input there."""
    trace: Trace | None
    """Set for sampled requests only."""

    def __init__(self) -> None:
        self.begin(b"", b"", b"", COMPLETED, 0.0, 0.0)
        self.unsent(0, 0, 0)

    def begin(
        self, method: bytes, path: bytes, request_id: bytes, outcome: str, started_s: float, ended_s: float
    ) -> None:
        """Take what every request has; all else becomes "not known".

        Follow it by :meth:`unsent`, or by all that :meth:`unsent` names: nothing is set twice.
        """
        self.method = method
        self.path = path
        self.request_id = request_id
        self.outcome = outcome
        self.started_s = started_s
        self.ended_s = ended_s
        self.queue_s = 0.0
        self.code = self.asked = self.model = self.node = self.backend = self.endpoint = ""
        self.provider = self.origin = self.client = self.key = self.priority = self.route_version = ""
        self.cached = self.prompt_tokens = 0
        self.streamed = self.stale = False
        self.tail = self.opening = b""

    def unsent(self, status: int, bytes_in: int, bytes_out: int) -> None:
        """It was answered without asking anybody, with ``status``."""
        self.status, self.bytes_in, self.bytes_out = status, bytes_in, bytes_out
        self.planned_s = self.sent_s = self.first_byte_s = 0.0
        self.attempts = self.retries = self.moves = self.replays = self.hedges = 0
        self.failure = ""
        self.trace = None

    def let_go(self) -> None:
        """Drop what would otherwise be held until the row is used again: a client's own words may be long."""
        self.tail = self.opening = self.path = b""
        self.asked = ""
        self.trace = None
