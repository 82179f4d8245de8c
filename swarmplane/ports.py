"""Ports a host listens on unless settings say otherwise; apart from these, so that commands start sooner."""

from __future__ import annotations

from typing import Final

CLIENT_PORT: Final = 11400
CONTROL_PORT: Final = 11401
ADMIN_PORT: Final = 11402
PEER_PORT: Final = 11403
CONSOLE_PORT: Final = 11404
JOIN_PORT: Final = 11405
METRICS_PORT: Final = 11406
CONTROL_METRICS_PORT: Final = 11407
