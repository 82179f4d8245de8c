"""Which control planes to talk to, and as whom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmplane.addresses import parse_address
from swarmplane.contexts import current_name, read_context
from swarmplane.credentials import keys
from swarmplane.credentials.csr import make_csr
from swarmplane.credentials.files import Credential, load_credential, save_renewed
from swarmplane.credentials.names import Profile
from swarmplane.credentials.renewal import renewal_due_s
from swarmplane.datadir import DataDir
from swarmplane.errors import NotFoundError, SwarmError, UnauthenticatedError, reason_of
from swarmplane.identity import read_record
from swarmplane.ports import CONTROL_PORT
from swarmplane.runtime import read_runtime
from swarmplane.settings.directories import default_data_dir


@dataclass(frozen=True, slots=True)
class Target:
    """Control planes of a swarm, and where a credential for it is kept."""

    addresses: tuple[str, ...]
    directory: Path
    """Of the credential."""
    swarm: str
    swarm_name: str
    join_addresses: tuple[str, ...] = ()

    def credential(self) -> Credential:
        """The credential. It blocks.

        Raises:
            NotFoundError: There is none.
            UnauthenticatedError: Its time is over.
        """
        credential = load_credential(self.directory)
        facts = credential.facts()
        if facts.not_after_s < time.time():
            raise UnauthenticatedError(
                f"the certificate in {self.directory} has ended; "
                + ("log in again" if facts.subject.profile is Profile.USER else "`swarmctl up` renews it")
            )
        return credential


def chosen_target(data_dir: DataDir, context: str = "") -> Target:
    """The context named, else the one in use, else this host's own certificate, which reads.

    Raises:
        NotFoundError: There is nothing to act with.
    """
    name = context or current_name(data_dir)
    if not name:
        return node_target(data_dir)
    found = read_context(data_dir, name)
    addresses = _own_addresses(data_dir, found.swarm, found.addresses)
    return Target(addresses, data_dir.context(name), found.swarm, found.swarm_name, found.join_addresses)


def node_target(data_dir: DataDir) -> Target:
    """This host's own certificate: it reads, and acts on this host.

    Raises:
        NotFoundError: This host is in no swarm.
    """
    record = read_record(data_dir)
    if record is None:
        raise NotFoundError(
            f"this host is in no swarm (data directory {data_dir.root}): "
            "found one with `swarmctl up`, join one with `swarmctl join`, or log in with `swarmctl login`"
        )
    addresses = _own_addresses(data_dir, record.swarm_id, record.control_addresses)
    return Target(addresses, data_dir.node, record.swarm_id, record.swarm_name, record.join_addresses)


def saved_target(context: str = "", data_dir: str | Path | None = None) -> Target:
    """As ``swarmctl --context CONTEXT --data-dir DIR`` would choose; without them, as it does without."""
    return chosen_target(DataDir(Path(data_dir) if data_dir else default_data_dir()), context)


def explicit_credential(ca: str | Path, cert: str | Path, key: str | Path) -> Credential:
    """A credential of three PEM files. It blocks.

    Raises:
        NotFoundError: One of them can't be read.
    """
    try:
        return Credential(Path(ca).read_bytes(), Path(cert).read_bytes(), Path(key).read_bytes())
    except OSError as error:
        raise NotFoundError(f"{error.filename} can't be read: {reason_of(error)}") from error


def full_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """``addresses`` with the control plane's usual port where they have none.

    Raises:
        NotFoundError: There are none.
        InvalidRequestError: One is no address.
    """
    if not addresses:
        raise NotFoundError("no address of a control plane is known")
    return tuple(str(parse_address(one, default_port=CONTROL_PORT)) for one in addresses)


def due(credential: Credential) -> bytes | None:
    """The request (DER) that renews a person's certificate, once a third of its time is over; else None."""
    facts = credential.facts()
    if facts.subject.profile is not Profile.USER:
        return None
    if time.time() <= renewal_due_s(facts.not_after_s, facts.lifetime_s):
        return None
    return make_csr(keys.private_key_from_pem(credential.key_pem))


def keep_renewed(directory: Path, credential: Credential, certificate_pem: bytes) -> None:
    """Keep a renewed certificate. One that can't be kept now is renewed at the next use. It blocks."""
    try:
        renewed = credential.with_certificate(certificate_pem)
        renewed.check()
        save_renewed(directory, renewed.certificate_pem)
    except (SwarmError, OSError):
        return


def _own_addresses(data_dir: DataDir, swarm: str, addresses: Sequence[str]) -> tuple[str, ...]:
    # A host that runs knows best where its own instance listens: ports may have been free ones.
    runtime = read_runtime(data_dir)
    own = runtime.urls.get("control", "") if runtime is not None and runtime.swarm == swarm else ""
    return tuple(dict.fromkeys([own, *addresses] if own else addresses))
