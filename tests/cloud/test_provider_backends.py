"""Providers in the cloud as backends of a real sidecar, over real TLS with an authority of the test's own."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import ClientSession, ClientTimeout

from swarmplane.datadir import DataDir
from swarmplane.sealed_keys import seal, sealed_file
from tests.e2e.hosts import swarmctl
from tests.fakes.authority import until
from tests.fakes.backend import Behaviour, running_backend
from tests.fakes.provider import ANTHROPIC, FakeProvider, running_provider
from tests.fakes.sidecars import WAIT_S, Running, sidecar
from tests.store.etcd_certificates import TestAuthority

pytestmark = pytest.mark.process

CHAT = "/v1/chat/completions"


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(WAIT_S)) as session:
        yield session


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A file with its certificate, and a server's context that it vouches for."""
    signer = TestAuthority()
    ca_file = tmp_path / "proxy-ca.pem"
    ca_file.write_bytes(signer.pem)
    certificate, key = signer.pair("provider").write(tmp_path, "provider")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return ca_file, context


def _settings(data_dir: Path, provider: FakeProvider, ca_file: Path | None, **more: Any) -> dict[str, Any]:
    kind = "anthropic-compatible" if provider.dialect == ANTHROPIC else "openai-compatible"
    file = sealed_file(DataDir(data_dir), "cloud")
    seal(file, "sk-right", name="cloud", url=provider.url)
    entry = {"name": "cloud", "provider": kind, "url": provider.url, "key_file": str(file), **more}
    return entry if ca_file is None else {**entry, "ca_file": str(ca_file)}


def _set(*backends: dict[str, Any]) -> tuple[str, str, str, str]:
    return "--set", f"backends={json.dumps(backends)}", "--set", "discovery.backends=false"


async def _ask(
    http: ClientSession, run: Running, model: str, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with http.post(run.client + CHAT, json=body, headers=headers) as answer:
        return answer.status, await answer.json(), dict(answer.headers)


async def _models(http: ClientSession, run: Running) -> set[str]:
    async with http.get(f"{run.client}/v1/models") as answer:
        return {entry["id"] for entry in (await answer.json())["data"]}


async def _explain(http: ClientSession, run: Running, model: str) -> list[dict[str, Any]]:
    async with http.get(f"{run.admin}/explain", params={"model": model}) as answer:
        assert answer.status == 200
        items: list[dict[str, Any]] = (await answer.json())["items"]
        return items


async def test_a_provider_serves_its_models_by_name_alone(
    tmp_path: Path, http: ClientSession, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, context = authority
    async with (
        running_provider(context, public_list=True) as cloud,
        running_backend(models=("gpt-big",)) as own,
    ):
        backends = (
            {"url": f"http://127.0.0.1:{own.port}", "name": "own"},
            _settings(tmp_path, cloud, ca_file, models=["gpt-*"]),
        )
        async with sidecar(tmp_path, *_set(*backends)) as run:
            await run.until_ready()
            assert await _models(http, run) == {"gpt-big", "cloud:gpt-big", "cloud:gpt-small"}
            assert not cloud.conversations()

            status, document, headers = await _ask(http, run, "cloud:gpt-big")
            assert (status, document["choices"][0]["message"]["content"]) == (200, "from the cloud")
            assert (document["model"], headers["x-swarm-backend"]) == ("cloud:gpt-big", "cloud")
            (asked,) = cloud.conversations()
            assert asked["model"] == "gpt-big"

            # Nothing brings a request there that does not name it, nor one that is to stay here.
            status, _, headers = await _ask(http, run, "gpt-big")
            assert (status, headers["x-swarm-backend"]) == (200, "own")
            assert (await _ask(http, run, "gpt-small"))[0] == 404
            status, document, _ = await _ask(http, run, "cloud:gpt-big", **{"x-swarm-local-only": "1"})
            assert (status, "provider" in document["error"]["message"]) == (503, True)
            own.default = Behaviour(status=500)
            assert (await _ask(http, run, "gpt-big"))[0] == 502
            assert len(cloud.conversations()) == 1
            left_out = {one["backend"]: one["excluded"] for one in await _explain(http, run, "gpt-big")}
            assert left_out["cloud"] == "cloud_named"
            assert [one["excluded"] for one in await _explain(http, run, "cloud:gpt-big")] == [None]

            # A key that is revoked takes the provider out; its refusal is not told to a client as its own.
            cloud.key, before = "sk-another", len(cloud.asked)
            assert (await _ask(http, run, "cloud:gpt-big"))[0] == 502
            await until(lambda: "/v1/models" in {path for path, *_ in cloud.asked[before:]})
            async with asyncio.timeout(20):  # its answer is on its way
                while (status := (await _ask(http, run, "cloud:gpt-big"))[0]) == 502:
                    pass
            assert status == 503

            async with http.get(f"{run.admin}/config") as answer:
                shown = await answer.text()
            run.process.terminate()
            _, words = await run.ended()
            assert "sk-" not in shown + words
    sealed = sealed_file(DataDir(tmp_path), "cloud")
    assert b"sk-right" not in sealed.read_bytes()
    assert sealed.stat().st_mode & 0o077 == 0


async def test_a_provider_is_the_last_resort_where_its_owner_says_so(
    tmp_path: Path, http: ClientSession, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, context = authority
    async with running_provider(context) as cloud, running_backend(models=("gpt-big",)) as own:
        backends = (
            {"url": f"http://127.0.0.1:{own.port}", "name": "own"},
            _settings(tmp_path, cloud, ca_file, use="last"),
        )
        async with sidecar(tmp_path, *_set(*backends)) as run:
            await run.until_ready()
            status, _, headers = await _ask(http, run, "gpt-big")
            assert (status, headers["x-swarm-backend"], cloud.conversations()) == (200, "own", [])
            left_out = {one["backend"]: one["excluded"] for one in await _explain(http, run, "gpt-big")}
            assert left_out == {"own": None, "cloud": "cloud_last"}

            own.default = Behaviour(status=500)
            status, document, headers = await _ask(http, run, "gpt-big")
            assert (status, document["choices"][0]["message"]["content"]) == (200, "from the cloud")
            assert (headers["x-swarm-model"], headers["x-swarm-fallback"]) == ("cloud:gpt-big", "gpt-big")
            # A model that nobody has but the provider.
            status, _, headers = await _ask(http, run, "gpt-small")
            assert (status, headers["x-swarm-model"]) == (200, "cloud:gpt-small")
            assert [one["excluded"] for one in await _explain(http, run, "gpt-small")] == ["cloud_last"]
            for name, refusal in (
                ("x-swarm-no-fallback", {404, 502, 503}),
                ("x-swarm-local-only", {404, 502, 503}),
            ):
                status, _, _ = await _ask(http, run, "gpt-small", **{name: "1"})
                assert status in refusal, name
            assert len(cloud.conversations()) == 2


@pytest.mark.parametrize(
    ("fields", "more", "trusts", "why"),
    [
        pytest.param({"key": "sk-another"}, {}, True, "refuses the key", id="wrong-key"),
        pytest.param(
            {"key": "sk-another", "public_list": True},
            {},
            True,
            "refuses the key",
            id="public-list-wrong-key",
        ),
        pytest.param({"paid": False}, {}, True, "paid first", id="not-paid"),
        pytest.param({}, {}, False, "certificate is not trusted", id="unknown-authority"),
        pytest.param({}, {"use": "never"}, True, "never", id="never"),
        pytest.param({}, {"key_file": None}, True, "key", id="no-key"),
        pytest.param({}, {"name": "renamed"}, True, "sealed for another", id="key-of-another"),
    ],
)
async def test_a_provider_is_off_until_it_took_the_key(
    tmp_path: Path,
    http: ClientSession,
    authority: tuple[Path, ssl.SSLContext],
    fields: dict[str, Any],
    more: dict[str, Any],
    trusts: bool,
    why: str,
) -> None:
    ca_file, context = authority
    async with running_provider(context, **fields) as cloud:
        entry = {**_settings(tmp_path, cloud, ca_file if trusts else None), **more}
        async with sidecar(tmp_path, *_set({k: v for k, v in entry.items() if v is not None})) as run:
            await run.until_ready()
            assert await _models(http, run) == set()
            assert (await _ask(http, run, "cloud:gpt-big"))[0] == 404
            run.process.terminate()
            _, words = await run.ended()
            assert why in words
            assert "sk-" not in words
        assert not cloud.conversations()
        if more.get("use") == "never":
            assert not cloud.asked


async def test_the_version_of_anthropic_is_the_clients_own_where_it_names_one(
    tmp_path: Path, http: ClientSession, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, context = authority
    async with (
        running_provider(context, dialect=ANTHROPIC, models=["claude-x"]) as cloud,
        sidecar(tmp_path, *_set(_settings(tmp_path, cloud, ca_file))) as run,
    ):
        await run.until_ready()
        body = {
            "model": "cloud:claude-x",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "hi"}],
        }
        for version in ({}, {"anthropic-version": "2099-01-01"}):
            async with http.post(
                f"{run.client}/v1/messages", json=body, headers={"x-api-key": "the client's", **version}
            ) as answer:
                assert answer.status == 200
                assert (await answer.json())["content"][0]["text"] == "from the cloud"
        versions = [
            {key.lower(): value for key, value in headers.items()}["anthropic-version"]
            for path, headers, document in cloud.asked
            if document and document.get("model")
        ]
        assert versions == ["2023-06-01", "2099-01-01"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_openai_clients_reach_a_provider_that_speaks_anthropics_alone(
    tmp_path: Path, authority: tuple[Path, ssl.SSLContext], stream: bool
) -> None:
    ca_file, context = authority
    async with (
        running_provider(context, dialect=ANTHROPIC, models=["claude-x"]) as cloud,
        sidecar(tmp_path, *_set(_settings(tmp_path, cloud, ca_file))) as run,
    ):
        await run.until_ready()
        client = openai.AsyncOpenAI(base_url=f"{run.client}/v1", api_key="none", max_retries=0)
        messages: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
        if stream:
            pieces = await client.chat.completions.create(
                model="cloud:claude-x", messages=messages, stream=True
            )
            text = "".join([one.choices[0].delta.content or "" async for one in pieces if one.choices])
        else:
            answer = await client.chat.completions.create(model="cloud:claude-x", messages=messages)
            text = answer.choices[0].message.content or ""
            assert answer.usage is not None
            assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
        await client.close()
        assert text == "from the cloud"
        (asked,) = cloud.conversations()
        assert (asked["model"], asked["system"], asked["max_tokens"]) == ("claude-x", "be brief", 8192)


async def test_the_command_keeps_a_provider_once_it_took_the_key(
    tmp_path: Path, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, context = authority
    data_dir, key = tmp_path / "host", tmp_path / "key.txt"
    sealed = sealed_file(DataDir(data_dir), "team")
    async with running_provider(context, public_list=True) as cloud:

        async def call(*words: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(swarmctl, "backend", *words, data_dir=data_dir)

        add = ("add", cloud.url, "--provider", "openai-compatible", "--name", "team", "--key-file", str(key))
        key.write_text("sk-wrong\n")
        done = await call(*add, "--ca-file", str(ca_file))
        assert (done.returncode, "team was not kept: it refuses the key" in done.stderr) == (1, True)
        key.write_text("sk-right\n")
        done = await call(*add)
        assert (done.returncode, "certificate" in done.stderr) == (1, True)
        assert not sealed.exists()
        assert not (data_dir / "config.toml").exists()

        done = await call(*add, "--ca-file", str(ca_file), "--use", "last", "--model", "gpt-*")
        assert (done.returncode, done.stderr) == (0, "")
        key.unlink()
        (entry,) = tomllib.loads((data_dir / "config.toml").read_text())["backends"]
        assert (entry["provider"], entry["use"], entry["models"]) == ("openai-compatible", "last", ["gpt-*"])
        assert entry["key_file"] == str(sealed)
        done = await call("test", "team")
        assert (done.returncode, "gpt-big" in done.stdout) == (0, True)
        assert not cloud.conversations()
        assert (await call("remove", entry["url"])).returncode == 0
        assert not sealed.exists()
