"""llama.cpp's own HTTP server in a Python process, out of the ``xllamacpp`` wheel: no compiler, no binary.

Run by path by the guard. It ends when its standard input closes, so that it outlives nobody on any platform.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

_LIFELINE_LOST = 3


def main() -> None:
    """Serve until killed."""
    options = _arguments().parse_args()
    threading.Thread(target=_end_with_input, daemon=True).start()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = [options.alias]
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_ctx = options.context
    params.n_parallel = options.slots
    params.n_gpu_layers = options.gpu_layers
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cache_ram_mib = 0
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.offline = True
    params.embedding = True
    if options.ubatch:
        params.n_ubatch = options.ubatch
    params.n_batch = min(params.n_batch, params.n_ubatch)
    if options.pooling == "mean":
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if options.key_file:
        params.api_keys = [Path(options.key_file).read_text(encoding="ascii").strip()]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"serving at {server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()  # SIGTERM keeps its default: requests were drained before it comes


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="llama.cpp's HTTP server, from xllamacpp")
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens of all slots together")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--gpu-layers", type=int, default=-1)
    parser.add_argument("--ubatch", type=int, default=0, help="tokens computed at once; 0: the default")
    parser.add_argument("--pooling", choices=("mean", "model"), default="model")
    parser.add_argument("--key-file", default="")
    return parser


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(_LIFELINE_LOST)


if __name__ == "__main__":
    main()
