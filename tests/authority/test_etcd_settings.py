"""What flags and settings make of a way into etcd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.main import parse_arguments
from controlplane.settings import etcd_access
from swarmplane.addresses import Address
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.load import load


def access(tmp_path: Path, *arguments: str) -> Any:
    given = parse_arguments(["--data-dir", str(tmp_path), *arguments])
    return etcd_access(load(given.data_dir, given.overrides, {}))


def test_without_endpoints_the_store_is_the_embedded_one(tmp_path: Path) -> None:
    assert access(tmp_path) is None


def test_flags_name_the_cluster_and_how_to_be_let_in(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "password").write_text("open sesame\nnot this\n")
    found = access(
        tmp_path,
        *("--etcd", "https://a:2379,https://b", "--swarm", "prod", "--etcd-user", "swarm"),
        *("--etcd-ca", str(tmp_path / "ca"), "--etcd-cert", str(tmp_path / "cert")),
        *("--etcd-key", str(tmp_path / "key"), "--etcd-password-file", str(tmp_path / "password")),
    )
    assert found is not None
    assert found.endpoints == (Address("a", 2379), Address("b", 2379))
    assert (found.tls.ca_pem, found.tls.certificate_pem, found.tls.key_pem) == (b"ca", b"cert", b"key")
    assert (found.user, found.password, found.prefix) == ("swarm", "open sesame", "/swarmplane/prod/")
    assert "sesame" not in repr(found)
    assert "key'" not in repr(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--etcd-cert", "x"], "needs its key", id="certificate-without-key"),
        pytest.param(["--etcd-user", "x"], "password_file", id="user-without-password"),
        pytest.param(["--etcd-ca", "/nowhere/ca.pem"], "no such file", id="file-that-is-not-there"),
        pytest.param(["--set", "etcd.server_name=x"], "https://", id="tls-towards-http"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        access(tmp_path, "--etcd", "http://a:2379", *arguments)


def test_a_password_that_is_no_text_is_said_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"sesame\xff\xfe")
    arguments = ("--etcd", "http://a:2379", "--etcd-user", "x")
    with pytest.raises(InvalidRequestError, match="not UTF-8") as caught:
        access(tmp_path, *arguments, "--etcd-password-file", str(tmp_path / "password"))
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__, "nor in a traceback"


@pytest.mark.parametrize("endpoint", ["ftp://a:2379", "a:99999", "http://"])
def test_an_endpoint_is_an_address(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"etcd\.endpoints"):
        access(tmp_path, "--etcd", endpoint)
