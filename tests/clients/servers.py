"""Fake inference servers in processes of their own, and what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FakeServer:
    """``python -m tests.fakes.<kind>`` with ``arguments``."""

    def __init__(self, kind: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.fakes.{kind}", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self._mark = 0

    def report(self) -> Any:
        """Everything it tells."""
        with _OPENER.open(f"{self.url}/fake", timeout=10) as answer:
            return json.load(answer)

    def _acts(self) -> list[dict[str, Any]]:
        return [one for one in self.report()["requests"] if one["method"] not in {"GET", "HEAD"}]

    def forget(self) -> None:
        """What came so far is not of interest, and nothing is ordered any more."""
        self.order(default="")
        self._mark = len(self._acts())

    def requests(self) -> list[dict[str, Any]]:
        """What was asked of it since, beside looks at its state."""
        return [one for one in self._acts()[self._mark :] if one["target"] != "/api/show"]

    def last(self) -> Any:
        """The body of the last one."""
        return json.loads(self.requests()[-1]["body"])

    def order(self, *following: str, default: str | None = None, **voice: Any) -> None:
        """Behaviour of the next requests, one each, and of all after them; fields of the server's voice."""
        orders: dict[str, Any] = {"next": list(following), "voice": voice}
        if default is not None:
            orders["default"] = default
        request = urllib.request.Request(f"{self.url}/fake", data=json.dumps(orders).encode(), method="POST")
        with _OPENER.open(request, timeout=10) as answer:
            answer.read()

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
