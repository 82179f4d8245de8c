"""What a pick costs as candidates grow, and what its parts cost. Run: ``python -m bench.choosing``.

Prints microseconds of CPU, the best of repeated runs. Up to 16 candidates all are priced, so the pick
grows with them; above, it should hardly grow with ``latency``, slowly with ``least_cost`` (who has the prompt
cached is looked up), and linearly with the strategies that order by load.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import timeit
from collections.abc import Callable

from sidecar.core.candidate import Candidate, Facts
from sidecar.core.choosing import Chooser
from sidecar.core.cost import Ask
from sidecar.core.estimates_history import History
from sidecar.core.prefix import block_hashes
from sidecar.core.prefix_index import PrefixIndex
from sidecar.core.session import Sessions, session_key
from sidecar.routing.current import CurrentRoutes
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId
from swarmplane.interpreter import interpreter_here
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

SIZES = (2, 4, 8, 16, 17, 32, 64, 100, 300, 1000)
STRATEGIES = ("least_cost", "latency", "least_load", "local_spillover", "round_robin")
LIMITS_US = {16: 40.0, 100: 100.0}
MODEL = ModelName("m")
KEY = b"k" * 32


def micros(call: Callable[[], object], number: int = 200, repeat: int = 25) -> float:
    """CPU time of one ``call`` in the run least disturbed, in microseconds."""
    return min(timeit.repeat(call, time.process_time, number=number, repeat=repeat)) / number * 1e6


def swarm(size: int) -> tuple[Chooser, list[Candidate], Ask]:
    """``size`` measured endpoints, every fifth full; every third knows the prompt, one served the session."""
    history, prefixes, sessions = History(), PrefixIndex(), Sessions()
    blocks = block_hashes(b"x" * 8192, [(0, 8192)], KEY)
    session = session_key(MODEL, header="s")
    candidates = []
    for place in range(size):
        node = NodeId(f"n{place:04}")
        endpoint = Endpoint(
            EndpointId(f"{node}/b/m"), node, BackendName("b"), MODEL, slots=4, context_length=32_768
        )
        facts = Facts(size_bytes=4 * 10**9, free_bytes=20 * 10**9, memory_bytes=64 * 10**9)
        candidates.append(Candidate(endpoint, place == 0, (), node, place % 5, 0, 4, False, True, facts))
        for sample in range(20):
            history.first_token(
                MODEL, endpoint.id, 0.2 + 0.01 * place, prompt_tokens=100 * sample, now_s=sample
            )
            history.finished(MODEL, endpoint.id, 2.0, output_tokens=60, decode_s=1.8, now_s=sample)
        history.node(node).answered_after(0.001)
        if place % 3 == 0:
            prefixes.insert(MODEL, endpoint.id, blocks)
    sessions.begin(session, candidates[0].endpoint.id, 0.0)
    sessions.end(session, candidates[0].endpoint.id, 0.0)
    return Chooser(history, prefixes, sessions), candidates, Ask(MODEL, 2048, 512, blocks, session)


def picks() -> list[dict[str, object]]:
    """The time of the first pick, by strategy and number of candidates."""
    rows: list[dict[str, object]] = []
    for size in SIZES:
        row: dict[str, object] = {"candidates": size}
        row["table and pick"] = round(path_us(size), 1)
        row.update({strategy: round(pick_us(size, strategy), 1) for strategy in STRATEGIES})
        rows.append(row)
    return rows


def pick_us(size: int, strategy: str) -> float:
    """The time to choose and give the first of ``size`` candidates."""
    chooser, candidates, ask = swarm(size)
    return micros(lambda: next(chooser.choose(candidates, ask, strategy=strategy, draw=0.4, now_s=25.0)))


def path_us(size: int) -> float:
    """The time to look a model of ``size`` endpoints up in the table, and to choose and give the first."""
    nodes = [NodeId(f"n{place:04}") for place in range(size)]
    endpoints = tuple(
        Endpoint(EndpointId(f"{node}/b/m"), node, BackendName("b"), MODEL, slots=4) for node in nodes
    )
    routes = CurrentRoutes(NodeId("me"))
    entries = {node: NodeEntry(node, node, ("10.0.0.1:11403",)) for node in nodes}
    routes.install(RouteTable(SwarmId("s"), Version(1, 1), {MODEL: ModelRoute(MODEL, endpoints)}, entries))
    for endpoint in endpoints:
        routes.set_load(endpoint.id, {"other": 1}, 0, 4, 25.0)
    ask = Ask(MODEL, 2048, 512)

    def act() -> None:
        found = routes.resolve(MODEL, 25.0).candidates
        next(routes.balancer.choose(found, ask, strategy="least_cost", draw=0.4, now_s=25.0))

    return micros(act)


def hash_us(body: bytes) -> float:
    """The time to hash a prompt that fills ``body``."""
    return micros(lambda: block_hashes(body, [(0, len(body))], KEY), 100)


def parts() -> dict[str, float]:
    """What is done once for a request besides the pick."""
    history, prefixes, sessions = History(), PrefixIndex(), Sessions()
    endpoint = EndpointId("n/b/m")
    bodies = {size: b"x" * size for size in (512, 8 * 1024, 64 * 1024, 1024 * 1024)}
    blocks = block_hashes(bodies[8192], [(0, 8192)], KEY)
    found = {f"hash {size / 1024:g} KB": hash_us(body) for size, body in bodies.items()}
    found["insert 8 blocks"] = micros(lambda: prefixes.insert(MODEL, endpoint, blocks))
    found["match 8 blocks"] = micros(lambda: prefixes.match(MODEL, endpoint, blocks))
    found["session key"] = micros(lambda: session_key(MODEL, header="session-1"))
    key = session_key(MODEL, header="s")

    def served() -> None:
        sessions.begin(key, endpoint, 0.0)
        sessions.end(key, endpoint, 0.0)

    found["session begin and end"] = micros(served)
    found["record first token"] = micros(
        lambda: history.first_token(MODEL, endpoint, 0.2, prompt_tokens=500, now_s=1.0)
    )
    found["record finished"] = micros(
        lambda: history.finished(MODEL, endpoint, 2.0, output_tokens=50, decode_s=1.5, now_s=1.0)
    )
    return {name: round(value, 1) for name, value in found.items()}


def main() -> int:
    """Print the curves; exit 1 if a pick by cost takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one document instead of tables")
    arguments = parser.parse_args()
    rows, costs = picks(), parts()
    over = [
        f"{row['candidates']} candidates: {row['least_cost']} µs, at most {limit}"
        for row in rows
        if (limit := LIMITS_US.get(int(str(row["candidates"])))) and float(str(row["least_cost"])) > limit
    ]
    python = str(interpreter_here())
    if arguments.json:
        print(
            json.dumps(
                {"schema": "swarmplane.bench.choosing/v1", "python": python, "items": rows, "parts_us": costs}
            )
        )
    else:
        print(python)
        columns = ("table and pick", *STRATEGIES)
        print("µs".rjust(10), *(name.rjust(15) for name in columns))
        for row in rows:
            print(str(row["candidates"]).rjust(10), *(str(row[name]).rjust(15) for name in columns))
        for name, value in costs.items():
            print(f"{name:<24}{value:>8} µs")
    for line in over:
        print(f"too slow: {line}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
