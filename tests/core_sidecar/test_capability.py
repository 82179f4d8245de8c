"""Who can do what. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest

from sidecar.core.capability import AUDIO, CHAT, EMBEDDING, TOOLS, VISION, able, mismatch, missing
from sidecar.core.limits import Limits
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.routes import Endpoint, ModelRoute
from swarmplane.traits import Traits

CHATS = b"/v1/chat/completions"


def endpoint(*can: str, kind: str = "vllm", context: int = 0, ready: bool = True) -> Endpoint:
    return Endpoint(
        EndpointId("e"),
        NodeId("n"),
        BackendName("b"),
        "m",
        ready=ready,
        context_length=context,
        kind=kind,
        traits=Traits(capabilities=can),
    )


@pytest.mark.parametrize(
    ("found", "needed", "wanted"),
    [
        pytest.param(endpoint(), (CHAT, VISION), True, id="the-unknown-may"),
        pytest.param(endpoint("chat"), (CHAT,), True, id="it-can"),
        pytest.param(endpoint("completion"), (CHAT,), True, id="text-is-continued"),
        pytest.param(endpoint("embedding"), (CHAT,), False, id="only-embeds"),
        pytest.param(endpoint("chat"), (CHAT, VISION), False, id="sees-nothing"),
        pytest.param(endpoint("chat", "vision"), (CHAT, VISION), True, id="sees"),
        pytest.param(endpoint("chat"), (EMBEDDING,), False, id="embeds-nothing"),
        pytest.param(endpoint("chat", kind="ollama"), (EMBEDDING,), True, id="ollama-embeds-with-anything"),
        pytest.param(endpoint("chat", kind="ollama"), (AUDIO,), False, id="but-does-not-hear"),
        pytest.param(endpoint("chat"), (), True, id="nothing-needed"),
    ],
)
def test_able(found: Endpoint, needed: tuple[str, ...], *, wanted: bool) -> None:
    """Kills: unknown that lacks, any for all, the exception for every kind or every need."""
    assert able(found, needed) is wanted


def test_what_is_missing() -> None:
    """Kills: the first word whatever happens, all for any."""
    both = [endpoint("chat", "tools"), endpoint("chat", "vision")]
    assert missing(both, (CHAT, TOOLS, VISION)) == ""
    assert missing(both, (CHAT, AUDIO)) == AUDIO
    assert missing([], (CHAT,)) == CHAT


def test_a_refusal_says_who_can() -> None:
    """Kills: unknown, unready or unable models recommended, names unsorted, no end to them."""
    routes = [
        ModelRoute(ModelName("z"), (endpoint("chat", "vision"),)),
        ModelRoute(ModelName("a"), (endpoint("chat"), endpoint("completion", "vision"))),
        ModelRoute(ModelName("blind"), (endpoint("chat"),)),
        ModelRoute(ModelName("unknown"), (endpoint(),)),
        ModelRoute(ModelName("away"), (endpoint("chat", "vision", ready=False),)),
    ]
    sentence = mismatch("blind", VISION, routes, (CHAT, VISION))
    assert sentence == "The model 'blind' can't serve this request: it sees no images; models that can: a, z"
    assert mismatch("x", "magic", (), ("magic",)).endswith("magic; no model of the swarm is known to")
    many = [ModelRoute(ModelName(f"m{n:02}"), (endpoint("chat"),)) for n in range(12)]
    assert mismatch("x", CHAT, many, (CHAT,)).endswith("m08, m09 and 2 more")
    assert mismatch("x", CHAT, many[:10], (CHAT,)).endswith("m08, m09")


@pytest.mark.parametrize(
    ("endpoints", "path", "members", "body", "wanted"),
    [
        pytest.param([], CHATS, (), b"x" * 10**6, True, id="nobody"),
        pytest.param([endpoint()], CHATS, ("tools",), b'"image_url"', True, id="nothing-known"),
        pytest.param([endpoint(kind="ollama")], CHATS, (), b"", False, id="contexts-of-their-own"),
        pytest.param([endpoint(context=1024)], CHATS, (), b"x" * 4 * 767, True, id="it-fits"),
        pytest.param([endpoint(context=1024)], CHATS, (), b"x" * (4 * 767 + 1), False, id="it-may-not"),
        pytest.param(
            [endpoint(context=1024), endpoint(context=9999)], CHATS, (), b"x" * 4000, False, id="one"
        ),
        pytest.param([endpoint(context=100)], CHATS, (), b"xx", False, id="too-small-for-anything"),
        pytest.param([endpoint(context=1024)], CHATS, ("max_tokens",), b"", True, id="a-limit-that-fits"),
        pytest.param([endpoint()], CHATS, ("max_tokens",), b"", True, id="a-limit-and-no-context"),
        pytest.param([endpoint("chat")], CHATS, ("messages",), b"{}", True, id="it-can"),
        pytest.param([endpoint("chat"), endpoint()], CHATS, (), b"{}", True, id="the-unknown-may"),
        pytest.param([endpoint("completion")], CHATS, (), b"{}", True, id="text-is-continued"),
        pytest.param([endpoint("embedding")], CHATS, (), b"{}", False, id="only-embeds"),
        pytest.param([endpoint("chat"), endpoint("embedding")], CHATS, (), b"{}", False, id="one-does-not"),
        pytest.param([endpoint("chat")], CHATS, ("tools",), b"{}", False, id="tools"),
        pytest.param([endpoint("chat", "tools")], CHATS, ("tools",), b"{}", True, id="tools-there"),
        pytest.param([endpoint("chat")], CHATS, (), b'{"type": "image_url"}', False, id="image"),
        pytest.param(
            [endpoint("chat", "vision")], CHATS, (), b'{"type": "image_url"}', True, id="image-there"
        ),
        pytest.param([endpoint("chat", "vision")], CHATS, (), b'{"type": "input_audio"}', False, id="audio"),
        pytest.param([endpoint("embedding")], b"/v1/rerank", ("tools",), b"{}", True, id="another-path"),
    ],
)
def test_what_suits_at_once(
    endpoints: list[Endpoint], path: bytes, members: tuple[str, ...], body: bytes, *, wanted: bool
) -> None:
    """Kills: max for min, union for intersection, marks or limits not looked at, an unknown that lacks."""
    assert Limits(endpoints).suit(path, dict.fromkeys(members, b"300"), body) is wanted


@pytest.mark.parametrize(
    ("limits", "size", "wanted"),
    [
        ({"max_tokens": b"923"}, 400, True),
        ({"max_tokens": b"924"}, 400, False),
        ({"max_tokens": b"1", "max_completion_tokens": b"924"}, 400, False),
        ({"max_tokens": b"924", "max_completion_tokens": b"1"}, 400, False),
        ({"max_output_tokens": b"32000"}, 0, False),
        ({"max_tokens": b"1e9"}, 0, False),
        ({"max_tokens": b"null"}, 0, False),
        ({"max_tokens": b"9" * 5000}, 0, False),
        ({"max_tokens": b"1"}, 4 * 767 + 1, False),
    ],
)
def test_a_limit_suits_at_once_where_the_whole_answer_fits(
    limits: dict[str, bytes], size: int, *, wanted: bool
) -> None:
    """Kills: a limit that is not looked at, the first alone, the largest context, the prompt left out."""
    both = Limits([endpoint(context=4096), endpoint(context=1024)])
    assert both.suit(CHATS, limits, b"x" * size) is wanted
