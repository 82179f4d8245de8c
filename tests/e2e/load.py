"""Requests without end at one host, and what each was answered."""

from __future__ import annotations

import threading
import time
from typing import Self

from tests.e2e.hosts import Host
from tests.e2e.test_failures import post

THREADS = 2


class Load:
    """Requests for ``model`` at ``host``, one after another, in two threads, while it is entered."""

    def __init__(self, host: Host, model: str, *, pause_s: float = 0.02) -> None:
        self._host, self._model, self._pause_s = host, model, pause_s
        self._stop = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.took_s: list[float] = []
        self.attempts: list[int] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            began_s = time.monotonic()
            status, text, headers = post(self._host, self._model)
            self.answers.append((status, text))
            self.took_s.append(time.monotonic() - began_s)
            self.attempts.append(int(headers.get("x-swarm-attempts", "0")))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[tuple[int, str]]:
        """Answers other than 200."""
        return [one for one in self.answers if one[0] != 200]
