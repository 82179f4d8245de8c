"""Providers by name, what their answers say about a key, and keys as they lie on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.backends.target import CLOUD_EVERY_S, BackendSpec
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, InvalidRequestError
from swarmplane.providers import PROVIDERS, kind_of, plain, use_of, verdict
from swarmplane.sealed_keys import read_key, seal, sealed_file
from swarmplane.settings.backend import BackendSettings
from swarmplane.settings.layers import from_overrides
from swarmplane.settings.load import settings_of

URL = "https://api.example.com:443"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    file = sealed_file(DataDir(tmp_path), "open ai/../x")
    seal(file, "sk-1", name="openai", url=URL)
    return file


def test_a_sealed_key_opens_for_its_backend_alone(sealed: Path, tmp_path: Path) -> None:
    assert sealed.parent == tmp_path / "secrets"
    assert read_key(sealed, name="openai", url=URL) == "sk-1"
    for name, url in (("other", URL), ("openai", "https://evil.example.com:443")):
        with pytest.raises(FailedPreconditionError, match="sealed for another"):
            read_key(sealed, name=name, url=url)
    assert b"sk-1" not in sealed.read_bytes()
    modes = {one.name: one.stat().st_mode & 0o777 for one in sealed.parent.iterdir()}
    assert modes == {sealed.name: 0o600, "sealing.key": 0o600}


def test_keys_of_one_host_share_the_secret_and_not_their_bytes(sealed: Path) -> None:
    secret, before = (sealed.parent / "sealing.key").read_bytes(), sealed.read_bytes()
    seal(sealed, "sk-1", name="openai", url=URL)
    assert (sealed.parent / "sealing.key").read_bytes() == secret
    assert sealed.read_bytes() != before
    (sealed.parent / "sealing.key").unlink()
    with pytest.raises(FailedPreconditionError, match="backend add"):
        read_key(sealed, name="openai", url=URL)


def test_a_key_in_a_file_of_somebodys_own_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(" sk-2\n")
    assert read_key(file, name="any", url=URL) == "sk-2"
    for content in ("", "a\x00b", "two\nlines"):
        file.write_text(content)
        with pytest.raises(ValueError, match="not a key"):
            read_key(file, name="any", url=URL)


@pytest.mark.parametrize(
    ("listed", "asked", "words"),
    [
        (200, 400, ""), (200, 0, ""), (200, 404, ""), (401, 401, "refuses the key"),
        (200, 403, "refuses the key"), (200, 402, "paid"), (500, 400, "HTTP status 500"), (402, 0, "paid"),
    ],
)  # fmt: skip
def test_what_answers_say_about_a_key(listed: int, asked: int, words: str) -> None:
    said = verdict(listed, asked)
    assert words in said
    assert bool(words) == bool(said)


def test_a_kind_carries_the_policy() -> None:
    assert [use_of(kind_of("openai", use)) for use in ("never", "last", "named")] == [
        "never",
        "last",
        "named",
    ]
    assert [use_of(kind) for kind in ("ollama", "", "cloudy")] == ["", "", ""]
    assert max(len(kind_of(name, "named")) for name in PROVIDERS) <= 32
    assert [plain(name) for name in ("openai:a:b", "a")] == ["a:b", ""]


def test_settings_make_a_provider() -> None:
    entry = BackendSettings(url="https://api.openai.com", provider="openai", use="last", models=("gpt-*",))
    spec = BackendSpec.from_settings(entry)
    assert (spec.name, spec.provider, spec.use, spec.models) == ("openai", "openai", "last", ("gpt-*",))
    assert (spec.every_s, spec.tls, spec.port) == (CLOUD_EVERY_S, True, 443)
    own = BackendSpec.from_settings(BackendSettings(url="http://127.0.0.1:1"))
    assert (own.provider, own.use, own.every_s) == ("", "", 0.0)
    with pytest.raises(InvalidRequestError, match="NAME:MODEL"):
        BackendSpec.from_settings(entry.model_copy(update={"name": "a:b"}))


@pytest.mark.parametrize(
    ("url", "fine"),
    [("http://10.0.0.5:8000", False), ("http://127.0.0.1:8000", True), ("https://10.0.0.5", True)],
)
def test_a_key_leaves_this_machine_over_tls_only(url: str, *, fine: bool) -> None:
    entry = BackendSettings(url=url, provider="openai-compatible", name="mine")
    if fine:
        assert BackendSpec.from_settings(entry).provider == "openai-compatible"
    else:
        with pytest.raises(InvalidRequestError, match=r"in clear.*https"):
            BackendSpec.from_settings(entry)


def test_an_unknown_provider_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidRequestError, match=r"no provider is called 'opnai'.*openai"):
        settings_of(list(from_overrides(['backends=[{"url": "https://x", "provider": "opnai"}]'])))
