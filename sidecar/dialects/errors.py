"""A backend's error in any shape, in the shape of the client's dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_decode = msgspec.json.Decoder().decode
encode: Final = msgspec.json.Encoder().encode
_LONGEST: Final = 4096
_LIMITS: Final = re.compile(
    r"maximum context length|exceeds? the (available )?context (size|length)|context[_ ]length[_ ]exceeded"
)
"""How vLLM, llama.cpp and Ollama say that a prompt is too long."""
_FIGURES: Final = re.compile(r"maximum context length is (\d{1,9}) tokens\D+?(\d{1,9})")
TYPES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
    503: ("api_error", "overloaded_error"),
}
"""Status → OpenAI's type and Anthropic's; others by their hundred."""


def error_answer(path: bytes, status: int, body: bytes) -> bytes:
    """``body`` in the shape of the dialect of ``path``.

    Shapes that are read: ``{"error": {...}}``, ``{"error": "..."}``, FastAPI's ``{"detail": ...}``,
    ``{"message": ...}``; of anything else its start, where it is text.
    """
    fault = _read(body)
    message = str(fault.get("message") or f"the backend answered {status}")[:_LONGEST]
    too_long = _LIMITS.search(message) is not None or fault.get("type") == "exceed_context_size_error"
    if too_long:
        message = _in_words(path, message, fault)
    otherwise = ("invalid_request_error",) * 2 if status < 500 else ("api_error",) * 2  # noqa: PLR2004
    openai, anthropic = TYPES.get(status, otherwise)
    if path.startswith(b"/v1/messages"):
        return encode({"type": "error", "error": {"type": anthropic, "message": message}})
    if path.startswith(b"/api/"):
        return encode({"error": message})
    given, code, param = fault.get("type"), fault.get("code"), fault.get("param")
    return encode(
        {
            "error": {
                "message": message,
                "type": given if isinstance(given, str) else openai,
                "code": "context_length_exceeded" if too_long else code if isinstance(code, str) else None,
                "param": param if isinstance(param, str) else None,
            }
        }
    )


def _in_words(path: bytes, message: str, fault: Mapping[str, Any]) -> str:
    """That a prompt is too long, in the words that clients of the dialect look for."""
    asked, most = fault.get("n_prompt_tokens"), fault.get("n_ctx")
    if not (isinstance(asked, int) and isinstance(most, int)):
        figures = _FIGURES.search(message)
        asked, most = (int(figures[2]), int(figures[1])) if figures else (None, None)
    if path.startswith(b"/v1/messages"):
        told = f"{asked} tokens > {most} maximum" if asked is not None else message
        return f"prompt is too long: {told}"
    if path.startswith(b"/api/") or "maximum context length" in message or asked is None:
        return message
    return f"This model's maximum context length is {most} tokens. However, you requested {asked} tokens"


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"message": body[:_LONGEST].decode("utf-8", "replace").strip()}
    if not isinstance(found, dict):
        return {}
    error = found.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error}
    detail = found.get("detail")
    if isinstance(detail, list):
        detail = "; ".join(_detail(one) for one in detail[:8])
    return {"message": detail} if isinstance(detail, str) else found


def _detail(one: object) -> str:
    """One of FastAPI's complaints."""
    if not isinstance(one, dict):
        return "invalid"
    where = one.get("loc")
    place = ".".join(str(step) for step in where[1:]) if isinstance(where, list) else ""
    return f"{place}: {one.get('msg', 'invalid')}" if place else str(one.get("msg", "invalid"))
