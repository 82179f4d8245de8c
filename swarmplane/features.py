"""What a sidecar may say it understands in ``Hello``; an instance sends nothing else (DESIGN section 4)."""

from __future__ import annotations

from typing import Final

ROUTES: Final = "routes"
POLICY: Final = "policy"
LOAD: Final = "load"
SUSPICION: Final = "suspicion"
DRAIN: Final = "drain"
REDIRECT: Final = "redirect"
CONDITION: Final = "condition"
PREFIXES: Final = "prefixes"
EXPLAIN: Final = "explain"
INSTANCES: Final = "instances"
PULL: Final = "pull"
INTEREST: Final = "interest"
"""It says which models its clients use, and hears of those."""
INVENTORY_FIRST: Final = "inventory_first"
"""Its Inventory follows Hello at once, so that one write makes it a member with all that it has."""
IN_LINE: Final = "in_line"
"""It waits for its Welcome for as long as it is told that there is a line."""

ALL: Final = (
    ROUTES,
    POLICY,
    LOAD,
    SUSPICION,
    DRAIN,
    REDIRECT,
    CONDITION,
    PREFIXES,
    EXPLAIN,
    INSTANCES,
    INTEREST,
    PULL,
    INVENTORY_FIRST,
    IN_LINE,
)
"""What this version understands."""
