"""One request through one host to one backend, in every framing."""

from __future__ import annotations

import json

import pytest

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, STREAM, Client, Node, Served, client, running_node


async def test_a_plain_answer_is_relayed_with_our_headers(http: Client, backend: FakeBackend) -> None:
    answer = await http.ask(CHAT, x_request_id="abc")
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == "Hello"
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["x-swarm-node"] == "solo"
    assert answer.headers["x-swarm-backend"] == "one"
    assert answer.headers["x-swarm-model"] == "m1"
    assert answer.headers["x-swarm-attempts"] == "1"
    assert answer.headers["x-swarm-route-version"] == "0.0"
    assert "route;dur=" in answer.headers["server-timing"]
    assert json.loads(backend.asked[0].body) == CHAT
    assert backend.asked[0].header("x-request-id") == "abc"


async def test_a_request_id_is_made_where_none_or_a_bad_one_came(http: Client) -> None:
    first = await http.ask(CHAT)
    second = await http.ask(CHAT, x_request_id="a b")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert " " not in second.headers["x-request-id"]


async def test_client_credentials_and_swarm_headers_stop_here(http: Client, backend: FakeBackend) -> None:
    await http.ask(
        CHAT,
        authorization="Bearer secret",
        x_api_key="secret",
        cookie="secret=1",
        x_swarm_hop="someone",
        x_swarm_endpoint="someone/x/y",
        x_netllm_hops="1",
        connection="x-private",
        x_private="1",
        x_stays="yes",
    )
    names = {name for name, _ in backend.asked[0].headers}
    assert not names & {
        "authorization",
        "x-api-key",
        "cookie",
        "x-swarm-hop",
        "x-swarm-endpoint",
        "x-private",
    }
    assert not any(name.startswith(("x-swarm-", "x-netllm-")) for name in names)
    assert backend.asked[0].header("x-stays") == "yes"
    assert b"secret" not in repr(backend.asked[0].headers).encode()


async def test_the_backends_own_headers_are_sent(backend: FakeBackend) -> None:
    served = Served(backend, headers=((b"Authorization", b"Bearer engine"),), base_path="/base")
    async with running_node(served={"one": served}) as node, client(node) as http:
        await http.ask(CHAT, authorization="Bearer client")
    assert backend.asked[0].header("authorization") == "Bearer engine"
    assert backend.asked[0].target == "/base/v1/chat/completions"


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
@pytest.mark.parametrize("size", [0, 5_000, 900_000, 3_000_000])
async def test_plain_bodies_of_every_framing(http: Client, framing: str, size: int) -> None:
    answer = await http.ask(CHAT, x_fake=f"framing={framing};size={size};pieces=7")
    assert answer.status == 200
    assert answer.whole
    assert answer.json["object"] == "chat.completion"
    assert len(answer.body) >= size
    assert (await http.ask(CHAT)).status == 200, "the connection goes on"


@pytest.mark.parametrize("framing", ["chunked", "eof"])
async def test_streams_of_every_framing(http: Client, framing: str) -> None:
    answer = await http.ask(STREAM, x_fake=f"framing={framing};chunks=20")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.whole
    assert len(answer.events) == 21
    assert answer.events[-1] == "[DONE]"
    assert (await http.ask(STREAM)).events[-1] == "[DONE]"


async def test_a_stream_arrives_as_it_is_made(http: Client) -> None:
    http.post(STREAM, x_fake="chunks=3;interval_s=0.2")
    await http.head()
    size = int(await http.reader.readuntil(b"\r\n"), 16)
    first = await http.reader.readexactly(size)
    assert first.count(b"data:") == 1


async def test_http_1_0_gets_no_chunks(node: Node) -> None:
    async with client(node) as http:
        body = json.dumps(STREAM).encode()
        http.send(
            b"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        status, headers = await http.head()
        assert status == 200
        assert "transfer-encoding" not in headers
        assert headers["connection"] == "close"
        assert (await http.closed()).endswith(b"data: [DONE]\n\n")


async def test_a_chunked_request_reaches_the_backend_with_a_length(
    http: Client, backend: FakeBackend
) -> None:
    body = json.dumps(CHAT).encode()
    http.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
    for start in range(0, len(body), 7):
        piece = body[start : start + 7]
        http.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
    http.send(b"0\r\ntrailer: x\r\n\r\n")
    assert (await http.answer()).status == 200
    assert backend.asked[0].body == body


async def test_the_backends_spelling_goes_in_and_the_asked_name_comes_out(backend: FakeBackend) -> None:
    served = Served(backend, model="org/M-1.gguf", canonical="m1")
    async with running_node(served={"one": served}) as node, client(node) as http:
        body = b'{ "messages":[{"role":"user","content":"\\"model\\":\\"org/M-1.gguf\\""}] , "model" : "M1" }'
        plain = await http.ask(body)
        stream = await http.ask({**STREAM, "model": "m1"})
    assert backend.asked[0].body == body.replace(b'"M1"', b'"org/M-1.gguf"')
    assert plain.json["model"] == "M1"
    assert plain.headers["x-swarm-model"] == "m1"
    assert {json.loads(event)["model"] for event in stream.events[:-1]} == {"m1"}
    assert stream.events[-1] == "[DONE]"


async def test_our_extras_do_not_go_on(http: Client, backend: FakeBackend) -> None:
    await http.ask(
        b'{"fallback_models": ["x"], "model":"m1", '
        b'"metadata":{"tags":["a"],"k":"v"}, "fallback":false, "n":1}'
    )
    assert json.loads(backend.asked[0].body) == {"model": "m1", "metadata": {"k": "v"}, "n": 1}


async def test_any_v1_post_with_a_model_is_relayed(http: Client, backend: FakeBackend) -> None:
    answer = await http.ask({"model": "m1", "query": "q"}, "/v1/some/new/thing?beta=true")
    assert answer.status == 200
    assert backend.asked[0].target == "/v1/some/new/thing?beta=true"


async def test_a_form_names_its_model(backend: FakeBackend) -> None:
    served = Served(backend, model="whisper.bin", canonical="whisper")
    form = (
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff\r\n--yy\r\n'
        b'--xx\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--xx--\r\n'
    )
    async with running_node(served={"one": served}) as node, client(node) as http:
        answer = await http.ask(
            form, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=xx"
        )
    assert answer.status == 200
    assert backend.asked[0].body == form.replace(b"\r\n\r\nwhisper\r\n", b"\r\n\r\nwhisper.bin\r\n")


async def test_a_4xx_of_the_backend_is_the_clients(http: Client, backend: FakeBackend) -> None:
    backend.script.append(Behaviour(status=422, body='{"error":{"message":"no such tool"}}'))
    answer = await http.ask(CHAT)
    assert (answer.status, answer.json["error"]["message"]) == (422, "no such tool")
    assert len(backend.asked) == 1


async def test_backends_cannot_speak_for_us(http: Client) -> None:
    raw = (
        r"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-swarm-node: evil\r\nx-request-id: evil\r\n"
        r"set-cookie: a=b\r\naccess-control-allow-origin: *\r\n"
        r"keep-alive: timeout=5\r\nx-other: kept\r\n\r\n{}"
    )
    http.send(b"")
    answer = await http.ask(CHAT, x_fake=f"raw={raw.replace(';', chr(44))}")
    assert answer.headers["x-swarm-node"] == "solo"
    assert answer.headers["x-request-id"] != "evil"
    assert answer.headers["x-other"] == "kept"
    assert not answer.headers.keys() & {"set-cookie", "keep-alive", "access-control-allow-origin"}


async def test_connections_are_reused(http: Client, backend: FakeBackend) -> None:
    for _ in range(20):
        assert (await http.ask(CHAT)).status == 200
        assert (await http.ask(STREAM)).whole
    assert backend.connections == 1
