"""What a sidecar may say it understands in ``Hello``; an instance sends nothing else (DESIGN section 4)."""

from __future__ import annotations

from typing import Final

ROUTES: Final = "routes"
POLICY: Final = "policy"
LOAD: Final = "load"
SUSPICION: Final = "suspicion"
DRAIN: Final = "drain"
REDIRECT: Final = "redirect"

ALL: Final = (ROUTES, POLICY, LOAD, SUSPICION, DRAIN, REDIRECT)
"""What this version understands."""
