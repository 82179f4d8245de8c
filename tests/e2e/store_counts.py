"""What a member of etcd was asked to do."""

from __future__ import annotations

import http.client
import json
import re
from urllib.parse import urlsplit

from tests.store.etcd_server import Etcd, Member


def revision(etcd: Etcd) -> int:
    """Of the store: each writing transaction raises it by one."""
    found = json.loads(_asked(etcd.members[0], "POST", "/v3/kv/range", b'{"key": "AA=="}'))
    return int(found["header"]["revision"])


def messages(etcd: Etcd, method: str) -> int:
    """Requests of ``method`` that the first member has taken."""
    page = _asked(etcd.members[0], "GET", "/metrics").decode()
    name = re.escape(f'grpc_method="{method}"')
    found = re.findall(rf"^grpc_server_msg_received_total{{{name}.*}} (\S+)$", page, re.MULTILINE)
    return sum(int(float(number)) for number in found)


def _asked(member: Member, method: str, path: str, body: bytes | None = None) -> bytes:
    address = urlsplit(member.endpoint)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request(method, path, body=body)
        return connection.getresponse().read()
    finally:
        connection.close()
