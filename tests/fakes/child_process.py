"""A process like those of a host: says it is ready, ends with its lifeline. How it behaves is its argument.

child_process.py DATA_DIR NAME serve|die|die-later|hang|stubborn [--lifeline-stdin]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    run, name, how = Path(sys.argv[1]) / "run", sys.argv[2], sys.argv[3]
    run.mkdir(parents=True, exist_ok=True)
    count = run / f"{name}.count"
    count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
    if how == "die":
        sys.exit(3)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how != "hang":
        scratch = run / f"{name}.new"
        scratch.write_text(json.dumps({"pid": os.getpid(), "arguments": sys.argv[4:]}))
        scratch.replace(run / f"{name}.json")
    if how == "die-later":
        time.sleep(0.2)
        sys.exit(4)
    threading.Thread(target=_lifeline, daemon=True).start()
    while True:
        time.sleep(60)


def _lifeline() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


main()
