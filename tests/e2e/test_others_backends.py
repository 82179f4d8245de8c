"""On a machine of several people, a node leaves the servers of others alone until somebody names them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.e2e.hosts import Swarm, eventually, free_ports

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(240)]
STRANGER = 54_321
_SERVE = f"""
import os, socket
from tests.fakes.kinds import main

class Theirs(socket.socket):
    def __init__(self, *arguments, **more):
        os.seteuid({STRANGER})
        try:
            super().__init__(*arguments, **more)
        finally:
            os.seteuid(0)

socket.socket = Theirs
main()
"""
"""A server whose sockets are another user's, as the kernel sees them."""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux, to be another user"
)
def test_another_users_server_waits_to_be_named(swarm: Swarm) -> None:
    a = swarm.host("a")
    (port,) = a.looks_at = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    served = [sys.executable, "-c", _SERVE, "--kind", "vllm", "--model", "theirs", "--port", str(port)]
    with subprocess.Popen(served, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            a.up()
            (item,) = a.json("backend", "list")["items"]
            assert (item["state"], item["url"], item["models"]) == ("another user's", url, [])
            words = f"found, belongs to user {STRANGER}; add it with: swarmctl backend add {url}"
            assert words in a.ctl("status").stdout
            assert words in a.ctl("backend", "list").stdout
            assert a.models() == set()
            assert a.json("backend", "add", url)["state"] == "ok"
            eventually("it is used once it is named", lambda: a.models() == {"theirs"})
        finally:
            process.kill()
