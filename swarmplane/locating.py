"""From what people type as the address of a swarm to its enrolment listener. No proxies, no secrets."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Final

from swarmplane.addresses import Address, parse_address
from swarmplane.errors import FailedPreconditionError, InvalidRequestError, UnavailableError, reason_of
from swarmplane.ports import CLIENT_PORT, JOIN_PORT

WELL_KNOWN: Final = "/.well-known/swarmplane"
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Located:
    """An enrolment listener, as it is named to people."""

    address: Address

    @property
    def host(self) -> str:
        """Name or IP."""
        return self.address.host


async def locate(text: str) -> Located:
    """The enrolment listener meant by ``host``, ``host:port``, or the client URL of any member.

    Raises:
        InvalidRequestError: ``text`` is none of these.
        FailedPreconditionError: The member does not answer or is in no swarm.
    """
    if "://" not in text:
        return Located(parse_address(text, default_port=JOIN_PORT))
    return Located(await asyncio.to_thread(_pointed_at, text))


async def addresses_of(address: Address) -> tuple[Address, ...]:
    """IP addresses of ``address``, by getaddrinfo: names work wherever ping works.

    Raises:
        FailedPreconditionError: The name is unknown.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise FailedPreconditionError(
            f"the name {address.host} was not resolved in {_TIMEOUT_S:g} s"
        ) from None
    except OSError as error:
        raise FailedPreconditionError(
            f"the name {address.host} can't be resolved: {reason_of(error)}"
        ) from None
    return tuple(dict.fromkeys(Address(str(target[0]), int(target[1])) for *_, target in found))


def _pointed_at(url: str) -> Address:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidRequestError(
            f"{url!r} is no address; write HOST, HOST:PORT or http://HOST:{CLIENT_PORT}"
        )
    document = _well_known(parts.scheme, Address(parts.hostname, parts.port or CLIENT_PORT))
    join = document.get("join")
    first = join[0] if isinstance(join, list) and join else join
    if not isinstance(first, str) or not first:
        raise FailedPreconditionError(f"{url} is in no swarm, or does not know where one is joined")
    address = parse_address(first, default_port=JOIN_PORT)
    # A host that is alone on loopback says so; whoever reached it by another way asks there.
    return Address(parts.hostname, address.port) if address.loopback or address.unspecified else address


def _well_known(scheme: str, address: Address) -> dict[str, object]:
    try:
        connection = _connection(scheme, address)
        try:
            connection.request("GET", WELL_KNOWN, headers={"accept": "application/json"})
            answer = connection.getresponse()
            document = json.loads(answer.read(_MOST_BYTES)) if answer.status == http.client.OK else None
        finally:
            connection.close()
    except OSError as error:
        raise UnavailableError(f"nobody answers at {address}: {reason_of(error)}") from None
    except (http.client.HTTPException, ValueError) as error:
        raise FailedPreconditionError(f"no member of a swarm answers at {address}: {error}") from None
    if not isinstance(document, dict):
        raise FailedPreconditionError(f"what answers at {address} is no member of a swarm")
    return document


def _connection(scheme: str, address: Address) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
    # It only points the way: what it points at must prove itself against the token's fingerprint.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(address.host, address.port, timeout=_TIMEOUT_S, context=context)
