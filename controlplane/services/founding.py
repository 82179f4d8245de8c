"""Founding a swarm, once, and opening it again.

The transaction that writes ``swarm`` is the founding; everything on disk before it is made anew when a crash
came in between, and everything after it can be made again from the store and the secret.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from controlplane.services import keyspace
from controlplane.services.audit import audit_record
from controlplane.services.authority import SwarmAuthority
from controlplane.services.own_credentials import forget_admin_credential, make_admin_credential
from controlplane.services.roles import Role
from controlplane.services.sealing import SECRET_BYTES, Sealed, SwarmSecret
from controlplane.store.port import Put, Store, absent
from swarmplane.codec import records
from swarmplane.credentials.authority import Authority, found_authority
from swarmplane.credentials.files import credential_exists
from swarmplane.credentials.names import control_subject
from swarmplane.datadir import DataDir, make_private, write_atomically
from swarmplane.errors import FailedPreconditionError
from swarmplane.ids import SwarmId, random_id

ADMIN_NAME: Final = "admin"
_HOW_TO_FOLLOW: Final = (
    "become an instance of it with a token (there: swarmctl token create --role instance; here: swarmctl "
    "join ADDRESS --etcd URL,... --token-file FILE), or give its secret with --swarm-secret-file"
)


async def open_or_found(
    store: Store,
    data_dir: DataDir,
    *,
    swarm_name: str,
    unix_s: Callable[[], float],
    secret_file: Path | None = None,
    shared: bool = False,
) -> SwarmAuthority:
    """The swarm of ``store``; founded now if it has none.

    Args:
        store: Open.
        data_dir: Gets the secret (if it has none) and, at founding, an admin's credential.
        swarm_name: Of a swarm that is founded.
        unix_s: Wall clock.
        secret_file: Read instead of the one in ``data_dir``.
        shared: Whether other hosts use the store too: a host that was an instance of some swarm founds
            none in an empty one, which was wiped, or is not the one it was; and a host that came second
            forgets the secret that it made.

    Raises:
        FailedPreconditionError: The store has a swarm and the secret is missing or another one's; or it has
            none any longer.
    """
    path = secret_file or data_dir.swarm_secret
    if await store.get(keyspace.SWARM) is None:
        if shared and await asyncio.to_thread(credential_exists, data_dir.control_plane):
            raise FailedPreconditionError(
                "the store is empty, but this host is an instance of a swarm: etcd was wiped, or these are "
                "other endpoints or another prefix; bring its data back, or leave the swarm for good "
                "(`swarmctl leave --purge --force`) before a new one is founded"
            )
        made = secret_file is None and not await asyncio.to_thread(path.exists)
        secret = await asyncio.to_thread(_read_or_make_secret, path, made=secret_file is None)
        if await _found(store, data_dir, secret, swarm_name, unix_s()):
            return await _open(store, secret, path)
        if made and shared:
            # Another host was first: its secret is the swarm's, and ours must not stand in its way.
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise FailedPreconditionError(
                f"another host founded swarm {swarm_name!r} in this store at the same time; {_HOW_TO_FOLLOW}"
            )
    return await _open(store, await asyncio.to_thread(_read_secret, path), path)


async def _open(store: Store, secret: SwarmSecret, path: Path) -> SwarmAuthority:
    swarm_kv, key_kv = await store.get(keyspace.SWARM), await store.get(keyspace.CA_KEY)
    if swarm_kv is None or key_kv is None:
        raise FailedPreconditionError("the store has no whole swarm; restore it from a backup")
    swarm = records.Swarm.FromString(swarm_kv.value)
    sealed = records.SealedKey.FromString(key_kv.value)
    try:
        key_pem = secret.unseal(Sealed(sealed.nonce, sealed.ciphertext), swarm.id.encode())
    except FailedPreconditionError as error:
        raise FailedPreconditionError(
            f"the swarm secret in {path} is not the one of swarm {swarm.name!r} ({swarm.id}); give the right "
            "one with --swarm-secret-file"
        ) from error
    authority = Authority(swarm.ca_pem.encode(), _pem_of(key_pem))
    return SwarmAuthority(SwarmId(swarm.id), swarm.name, authority, secret)


async def _found(store: Store, data_dir: DataDir, secret: SwarmSecret, swarm_name: str, now_s: float) -> bool:
    """Whether this call founded the swarm; False if somebody else was first."""
    swarm = SwarmId(random_id())
    authority = SwarmAuthority(swarm, swarm_name, found_authority(swarm, now_s), secret)
    # Before the transaction: a swarm never exists without anybody who may act on it.
    await asyncio.to_thread(make_admin_credential, authority, data_dir, ADMIN_NAME, now_s)
    sealed = secret.seal(_der_of(authority.ca.key_pem), swarm.encode())
    record = records.Swarm(
        id=swarm, name=swarm_name, ca_pem=authority.ca_pem.decode(), founded_at_s=int(now_s)
    )
    admin = records.Person(name=ADMIN_NAME, role=Role.ADMIN.value, enrolled_at_s=int(now_s))
    key = records.SealedKey(nonce=sealed.nonce, ciphertext=sealed.ciphertext)
    audit = audit_record(now_s, control_subject(swarm).id, "swarm.found", swarm, f"founded {swarm_name}")
    done = await store.transact(
        [absent(keyspace.SWARM), absent(keyspace.CA_KEY), absent(keyspace.GENERATION)],
        [
            Put(keyspace.SWARM, record.SerializeToString()),
            Put(keyspace.CA_KEY, key.SerializeToString()),
            Put(keyspace.GENERATION, records.Counter(value=1).SerializeToString()),
            Put(keyspace.person(ADMIN_NAME), admin.SerializeToString()),
            audit,
        ],
    )
    if not done.succeeded:
        await asyncio.to_thread(forget_admin_credential, authority, data_dir)
        if await store.get(keyspace.SWARM) is None:
            message = "the store holds parts of a swarm but no swarm; use an empty one"
            raise FailedPreconditionError(message)
    return done.succeeded


def _read_secret(path: Path) -> SwarmSecret:
    try:
        return SwarmSecret(path.read_bytes())
    except FileNotFoundError:
        raise FailedPreconditionError(
            f"the store holds a swarm, but its secret is not in {path}; {_HOW_TO_FOLLOW}"
        ) from None
    except OSError as error:
        raise FailedPreconditionError(f"the swarm secret in {path} can't be read: {error}") from error


def _read_or_make_secret(path: Path, *, made: bool) -> SwarmSecret:
    if path.exists() or not made:
        return _read_secret(path)
    # A new directory, and each that it is in, is private before anything stands in it.
    make_private(path.parent)
    value = secrets.token_bytes(SECRET_BYTES)
    write_atomically(path, value)
    return SwarmSecret(value)


def secret_is_private(path: Path) -> bool:
    """Whether nobody but its owner may read the file; True where modes mean nothing (Windows)."""
    return os.name == "nt" or not path.exists() or path.stat().st_mode & 0o077 == 0


def _der_of(key_pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    from swarmplane.credentials.keys import private_key_from_pem

    return private_key_from_pem(key_pem).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem_of(key_der: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_der_private_key(key_der, password=None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def next_generation(before: int, now_s: float) -> int:
    """The generation of a store that takes the place of one whose generation was ``before``.

    Unix time ``now_s`` takes part: two copies of one store must not come to the same.
    """
    return max(before + 1, int(now_s))
