"""Pages of a list: all of one revision, so that nothing is listed twice or left out."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final

from swarmplane.errors import InvalidRequestError

DEFAULT_SIZE: Final = 100
MAX_SIZE: Final = 1_000


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page begins; opaque to callers."""

    after: str = ""
    """Key of the last item before it; empty at the start."""
    revision: int = 0
    """Store revision of the whole list; 0: now."""

    def encode(self) -> str:
        """As it stands in an answer; empty after the last page."""
        if not self.after:
            return ""
        return base64.urlsafe_b64encode(json.dumps([self.after, self.revision]).encode()).decode()


def decode_page_token(text: str) -> PageToken:
    """The inverse of :meth:`PageToken.encode`.

    Raises:
        InvalidRequestError: It is not from us.
    """
    if not text:
        return PageToken()
    try:
        after, revision = json.loads(base64.urlsafe_b64decode(text.encode()))
        return PageToken(str(after), int(revision))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidRequestError("page_token is not one of an answer; list from the start") from error


def page_size(asked: int) -> int:
    """How many items a page has: 1 to 1,000, 100 where nothing was asked for.

    Raises:
        InvalidRequestError: More were asked for.
    """
    if asked > MAX_SIZE:
        raise InvalidRequestError(f"page_size is at most {MAX_SIZE}")
    return asked or DEFAULT_SIZE
