"""An answer of a backend that is none, and a request that a backend cannot honour."""

from __future__ import annotations

from swarmplane.errors import Code, InvalidRequestError, SwarmError


class BackendAnswerError(SwarmError):
    """A backend's answer is broken, cut off, or reports an error; its content is not told."""

    default_code = Code.UPSTREAM_FAILED


def broken() -> BackendAnswerError:
    """What is raised for an answer that is not what the backend's dialect allows."""
    return BackendAnswerError("The backend's answer is not valid")


def cut_off() -> BackendAnswerError:
    """What is raised for an answer that ends before the backend said that it is whole."""
    return BackendAnswerError("The backend's answer ended too early")


def reported() -> BackendAnswerError:
    """What is raised where the backend reports an error in the place of an answer."""
    return BackendAnswerError("The backend reported an error while it answered")


def refused(field: str, why: str) -> InvalidRequestError:
    """What is raised for ``field`` of a request, in the client's spelling, that the backend cannot honour."""
    return InvalidRequestError(f"{field}: {why}", param=field)
