"""A picture, as clients send it, and what the fakes say when they see it."""

from __future__ import annotations

import base64
import hashlib

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""
BASE64 = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{BASE64}"
SEEN = f"I see 1 images: {hashlib.sha256(PNG).hexdigest()[:8]}"
