"""TLS, client certificates, users and tokens of etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from controlplane.store.etcd.access import EtcdAccess, EtcdTiming, EtcdTls
from controlplane.store.etcd.calls import AUTHENTICATE
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import StoreUnavailableError
from swarmplane.errors import ForbiddenError, UnauthenticatedError
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_certificates import TestAuthority
from tests.store.etcd_harness import UNHURRIED
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, etcd_version, running
from tests.store.harness import take

BRIEF = EtcdTiming(attempt_s=0.5, give_up_s=1.5)
TOKEN_TTL_S = 2


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message: what only administrators say to etcd has no schema here."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def administer(endpoint: str, *calls: tuple[str, bytes]) -> None:
    """Set up users; blocks."""
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        for method, request in calls:
            channel.unary_unary(f"/etcdserverpb.Auth/{method}")(request, timeout=20)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture(scope="module")
def secured(authority: TestAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One member that wants client certificates, and whose own has a name that is not its address."""
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    directory: Path = tmp_path_factory.mktemp("certificates")
    certificate, key = authority.pair("etcd", host="etcd.internal").write(directory, "etcd")
    (directory / "ca.pem").write_bytes(authority.pem)
    flags = [
        *QUICK_ELECTIONS,
        f"--cert-file={certificate}",
        f"--key-file={key}",
        f"--trusted-ca-file={directory / 'ca.pem'}",
        "--client-cert-auth",
    ]
    with running(1, flags, scheme="https") as etcd:
        yield etcd


@pytest.fixture(scope="module")
def guarded() -> Iterator[Etcd]:
    """One member with a user who may use what is below /ours/, and whose tokens run out quickly."""
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    if etcd_version() < (3, 5, 0):
        pytest.skip("etcd 3.4 has no --auth-token-ttl")
    with running(1, [*QUICK_ELECTIONS, f"--auth-token-ttl={TOKEN_TTL_S}"]) as etcd:
        below = field(1, 2) + field(2, b"/ours/") + field(3, b"/ours0")
        administer(
            etcd.endpoints[0],
            ("UserAdd", field(1, b"root") + field(2, b"rootpw")),
            ("RoleAdd", field(1, b"root")),
            ("UserGrantRole", field(1, b"root") + field(2, b"root")),
            ("UserAdd", field(1, b"swarm") + field(2, b"right")),
            ("RoleAdd", field(1, b"ours")),
            ("RoleGrantPermission", field(1, b"ours") + field(2, below)),
            ("UserGrantRole", field(1, b"swarm") + field(2, b"ours")),
            ("AuthEnable", b""),
        )
        yield etcd


def mutual(authority: TestAuthority, **changes: object) -> EtcdTls:
    pair = authority.pair("control plane")
    values = {
        "ca_pem": authority.pem,
        "certificate_pem": pair.certificate,
        "key_pem": pair.key,
        "server_name": "etcd.internal",
    }
    return EtcdTls(**{**values, **changes})  # type: ignore[arg-type]


async def test_a_client_certificate_is_shown_and_everything_works(
    authority: TestAuthority, secured: Etcd
) -> None:
    access = EtcdAccess.of(secured.endpoints, tls=mutual(authority))
    async with EtcdStore.open(access, timing=UNHURRIED) as store, store.watch("") as batches:
        revision = await store.put("a", b"1")
        assert (await take(batches, 1))[0].revision == revision
        lease = await store.grant(10)
        assert await store.keep_alive(lease)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"certificate_pem": None, "key_pem": None}, id="without-a-certificate"),
        pytest.param({"server_name": ""}, id="another-name"),
        pytest.param({"ca_pem": TestAuthority().pem}, id="another-authority"),
    ],
)
async def test_who_cannot_be_trusted_is_not_talked_to(
    authority: TestAuthority, secured: Etcd, changes: dict[str, object]
) -> None:
    access = EtcdAccess.of(secured.endpoints, tls=mutual(authority, **changes))
    with pytest.raises(StoreUnavailableError):
        async with EtcdStore.open(access, timing=BRIEF):
            pass


async def test_plain_text_to_a_member_with_tls_is_out_of_reach(secured: Etcd) -> None:
    access = EtcdAccess.of([secured.endpoints[0].replace("https", "http")])
    with pytest.raises(StoreUnavailableError):
        async with EtcdStore.open(access, timing=BRIEF):
            pass


def as_user(etcd: Etcd, password: str = "right", prefix: str = "/ours/") -> EtcdAccess:
    return EtcdAccess.of(etcd.endpoints, user="swarm", password=password, prefix=prefix)


async def test_a_token_that_ran_out_is_replaced_once_for_all(
    guarded: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EtcdStore.open(as_user(guarded), timing=UNHURRIED, holder="h") as store:
        async with store.watch("") as batches:
            await store.put("a", b"1")
            first = store._client.token
            logins, ask = 0, store._client.ask

            async def counting(call: object, *given: object, **more: object) -> object:
                nonlocal logins
                logins += call is AUTHENTICATE
                return await ask(call, *given, **more)  # type: ignore[arg-type, type-var]

            monkeypatch.setattr(store._client, "ask", counting)
            await asyncio.sleep(TOKEN_TTL_S + 1.5)
            async with asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(store.put(f"b/{number}", b""))
            assert store._client.token not in {"", first}
            assert logins == 1
            assert len(await take(batches, 11)) == 11
        assert len((await store.range("")).items) == 11
        lease = await store.grant(10)
        assert await store.keep_alive(lease)
        await store.revoke(lease)


async def test_a_watch_logs_in_again_when_it_has_to_begin_anew(guarded: Etcd) -> None:
    async with EtcdStore.open(as_user(guarded), timing=UNHURRIED) as store:
        async with store.watch("w/") as batches:
            first = await store.put("w/1", b"1")
            assert (await take(batches, 1))[0].revision == first
            # A token is forgotten by a member that restarts.
            await asyncio.to_thread(guarded.restart)
            second = await store.put("w/1", b"2")
            assert (await take(batches, 1))[0].revision == second
        for token in ("out of date.1", ""):  # the latter while another call logs in
            store._client.token = token
            async with store.watch("w/", start_revision=first) as batches:
                assert [batch.revision for batch in await take(batches, 2)] == [first, second]


async def test_a_wrong_password_is_said_to_be_one(guarded: Etcd) -> None:
    with pytest.raises(UnauthenticatedError, match="password"):
        async with EtcdStore.open(as_user(guarded, "wrong"), timing=BRIEF):
            pass


async def test_no_user_where_one_is_wanted_is_said_so(guarded: Etcd) -> None:
    with pytest.raises(ForbiddenError, match="wants a user"):
        async with EtcdStore.open(EtcdAccess.of(guarded.endpoints), timing=BRIEF):
            pass


async def test_what_the_role_does_not_allow_is_forbidden(guarded: Etcd) -> None:
    with pytest.raises(ForbiddenError, match="role"):
        async with EtcdStore.open(as_user(guarded, prefix="/theirs/"), timing=BRIEF):
            pass


async def test_a_user_where_nobody_asks_for_one_is_no_matter(single_etcd: object) -> None:
    etcd = single_etcd.etcd  # type: ignore[attr-defined]
    access = EtcdAccess.of(etcd.endpoints, user="swarm", password="any", prefix="/nobody-asks/")
    async with EtcdStore.open(access, timing=UNHURRIED) as store:
        assert await store.put("a", b"")
