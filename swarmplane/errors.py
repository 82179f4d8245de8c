"""One tree of errors and one table of what they mean on every wire.

A gRPC interceptor, the admin middleware, the data plane and the CLI read the table; nothing else maps
statuses. The slug is first in each row because equal enum values would become aliases.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """Slug, gRPC status number, HTTP status, OpenAI type, Anthropic type, and whether a retry may help."""

    INVALID_REQUEST = ("invalid_request", 3, 400, "invalid_request_error", "invalid_request_error", False)
    CONTEXT_LENGTH_EXCEEDED = (
        "context_length_exceeded", 11, 400, "invalid_request_error", "invalid_request_error", False,
    )  # fmt: skip
    INVALID_API_KEY = ("invalid_api_key", 16, 401, "authentication_error", "authentication_error", False)
    UNAUTHENTICATED = ("unauthenticated", 16, 401, "authentication_error", "authentication_error", False)
    FORBIDDEN = ("forbidden", 7, 403, "permission_error", "permission_error", False)
    MODEL_NOT_FOUND = ("model_not_found", 5, 404, "invalid_request_error", "not_found_error", False)
    NOT_FOUND = ("not_found", 5, 404, "invalid_request_error", "not_found_error", False)
    METHOD_NOT_ALLOWED = (
        "method_not_allowed", 12, 405, "invalid_request_error", "invalid_request_error", False,
    )  # fmt: skip
    REQUEST_TIMEOUT = ("request_timeout", 4, 408, "invalid_request_error", "invalid_request_error", True)
    CONFLICT = ("conflict", 10, 409, "invalid_request_error", "invalid_request_error", True)
    ALREADY_EXISTS = ("already_exists", 6, 409, "invalid_request_error", "invalid_request_error", False)
    STALE_EPOCH = ("stale_epoch", 9, 409, "invalid_request_error", "invalid_request_error", False)
    FAILED_PRECONDITION = (
        "failed_precondition", 9, 409, "invalid_request_error", "invalid_request_error", False,
    )  # fmt: skip
    REQUEST_TOO_LARGE = ("request_too_large", 11, 413, "invalid_request_error", "request_too_large", False)
    MISDIRECTED = ("misdirected", 9, 421, "api_error", "api_error", True)
    RATE_LIMIT_EXCEEDED = ("rate_limit_exceeded", 8, 429, "rate_limit_error", "rate_limit_error", True)
    SATURATED = ("saturated", 8, 429, "rate_limit_error", "rate_limit_error", True)
    HEAD_TOO_LARGE = ("head_too_large", 11, 431, "invalid_request_error", "invalid_request_error", False)
    COMPACTED = ("compacted", 11, 410, "invalid_request_error", "invalid_request_error", False)
    INTERNAL = ("internal", 13, 500, "api_error", "api_error", False)
    UPSTREAM_FAILED = ("upstream_failed", 14, 502, "api_error", "api_error", True)
    MODEL_LOADING = ("model_loading", 14, 503, "api_error", "overloaded_error", True)
    NO_REPLICA = ("no_replica", 14, 503, "api_error", "overloaded_error", True)
    DRAINING = ("draining", 14, 503, "api_error", "overloaded_error", True)
    NOT_READY = ("not_ready", 14, 503, "api_error", "overloaded_error", True)
    UNAVAILABLE = ("unavailable", 14, 503, "api_error", "overloaded_error", True)
    UPSTREAM_TIMEOUT = ("upstream_timeout", 4, 504, "api_error", "api_error", True)
    LOOP = ("loop", 9, 508, "api_error", "api_error", False)

    @property
    def slug(self) -> str:
        """Stable name; ``reason`` in ``google.rpc.ErrorInfo`` and ``code`` in HTTP errors."""
        return self.value[0]

    @property
    def grpc_status(self) -> int:
        """Number of the gRPC status code."""
        return self.value[1]

    @property
    def http_status(self) -> int:
        """HTTP status."""
        return self.value[2]

    @property
    def openai_type(self) -> str:
        """``type`` in OpenAI's error object."""
        return self.value[3]

    @property
    def anthropic_type(self) -> str:
        """``type`` in Anthropic's error object."""
        return self.value[4]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.value[5]

    @classmethod
    def of_slug(cls, slug: str) -> Code:
        """The row named ``slug``; INTERNAL for a name this version does not know."""
        return next((code for code in cls if code.slug == slug), cls.INTERNAL)


class SwarmError(Exception):
    """Base of everything we raise on purpose.

    The message is a sentence that says what to do and is safe to show a client; ``details`` are strings
    that are safe to show too. ``code`` defaults to the class's own and may be given per instance.
    """

    code: Code
    default_code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, message: str, *, code: Code | None = None, **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details: Mapping[str, str] = details


def reason_of(error: OSError) -> str:
    """Why the system refused something, in its words: ``no space left on device``."""
    return (error.strerror or str(error) or type(error).__name__).lower()


class InvalidRequestError(SwarmError):
    """The caller's input is wrong and stays wrong."""

    default_code = Code.INVALID_REQUEST


class UnauthenticatedError(SwarmError):
    """Nobody we know, or a credential that is wrong, expired, used up or revoked."""

    default_code = Code.UNAUTHENTICATED


class ForbiddenError(SwarmError):
    """Somebody we know who may not do this."""

    default_code = Code.FORBIDDEN


class NotFoundError(SwarmError):
    """The named thing does not exist."""

    default_code = Code.NOT_FOUND


class AlreadyExistsError(SwarmError):
    """The named thing exists and is different."""

    default_code = Code.ALREADY_EXISTS


class ConflictError(SwarmError):
    """Somebody else changed it first; read again and retry."""

    default_code = Code.CONFLICT


class FailedPreconditionError(SwarmError):
    """The system is in a state in which this cannot be done."""

    default_code = Code.FAILED_PRECONDITION


class StaleEpochError(SwarmError):
    """The caller acts on a lease, session or epoch that has been superseded."""

    default_code = Code.STALE_EPOCH


class UnavailableError(SwarmError):
    """Something needed is out of reach for now."""

    default_code = Code.UNAVAILABLE
