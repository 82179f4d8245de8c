"""Block hashes and the index: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.prefix import (
    BLOCK_BYTES,
    HASH_VERSION,
    MOST_BLOCKS,
    block_hashes,
    pack_digest,
    prompt_tokens,
    unpack_digest,
)
from sidecar.core.prefix_index import DIGEST_BLOCKS, REPLICA_BLOCKS, PrefixIndex
from swarmplane.ids import EndpointId

KEY = b"swarm key of 32 bytes, they say!"
A, B, C = EndpointId("a/b/m"), EndpointId("b/b/m"), EndpointId("c/b/m")


def whole(text: bytes) -> tuple[bytes, ...]:
    return block_hashes(text, [(0, len(text))], KEY)


def chain(name: str, count: int) -> tuple[bytes, ...]:
    """Hashes of ``count`` blocks that only prompts of this name have."""
    return tuple(blake2b(f"{name}/{i}".encode(), digest_size=8).digest() for i in range(count))


def test_the_rule_that_all_sidecars_share() -> None:
    """Kills: another key, size, order, block or separator: then HASH_VERSION must be raised."""
    body = b'{"messages":[' + b"m" * 2000 + b'],"system":"' + b"s" * 100 + b'","tools":[' + b"t" * 30 + b"]}"
    messages, system, tools = body.index(b"mmm"), body.index(b"sss"), body.index(b"ttt")
    spans = [(tools, tools + 30), (system, system + 100), (messages, messages + 2000)]
    text = b"t" * 30 + b"\0" + b"s" * 100 + b"\0" + b"m" * 2000 + b"\0"
    expected = tuple(blake2b(text[:end], digest_size=8, key=KEY).digest() for end in (1024, 2048))
    assert HASH_VERSION == 1
    assert block_hashes(body, spans, KEY) == expected
    assert block_hashes(memoryview(bytearray(body)), spans, KEY) == expected


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_prompts_share_the_blocks_that_are_equal_from_the_start(left: bytes, right: bytes) -> None:
    """Kills: hashes of each block alone, the torn last block hashed."""
    common = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), None)
    shared = b"x" * 1024 + left, b"x" * 1024 + right
    one, two = whole(shared[0]), whole(shared[1])
    assert len(one) == (len(shared[0]) + 1) // BLOCK_BYTES
    same = next(
        (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two))
    )
    if common is not None:
        assert same == min((1024 + common) // BLOCK_BYTES, len(one), len(two))


def test_where_text_stands_matters_and_the_key_does() -> None:
    """Kills: no separator, the key left out."""
    body = b"a" * 3000
    assert block_hashes(body, [(0, 1000), (0, 0), (1000, 3000)], KEY) != block_hashes(
        body, [(0, 0), (0, 1000), (1000, 3000)], KEY
    )
    assert whole(body) != block_hashes(body, [(0, 3000)], b"another")


def test_short_prompts_have_none_and_long_ones_a_bound() -> None:
    """Kills: `<=` for `<`, no bound, a bound that forgets the spans after it."""
    assert block_hashes(b"", [], KEY) == ()
    assert whole(b"x" * 1022) == ()
    assert len(whole(b"x" * 1023)) == 1  # with the zero byte that ends the span
    long = b"x" * (BLOCK_BYTES * (MOST_BLOCKS + 3))
    assert len(whole(long)) == MOST_BLOCKS
    assert whole(long) == whole(long + b"y" * 5000)
    spans = [(0, len(long) // 2), (0, len(long)), (0, len(long))]
    assert len(block_hashes(long, spans, KEY)) == MOST_BLOCKS


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=20), st.binary(max_size=7))
def test_digests_cross_the_wire(hashes: list[bytes], torn: bytes) -> None:
    """Kills: a torn hash kept, a wrong step."""
    assert unpack_digest(pack_digest(hashes) + torn) == tuple(hashes)


def test_tokens_of_bytes() -> None:
    """Kills: rounding down (a prompt of three bytes is no empty one)."""
    assert [prompt_tokens(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_a_match_counts_leading_blocks_only() -> None:
    """Kills: any block counted, off by one in the search, no blocks at all."""
    index = PrefixIndex()
    first, second = chain("x", 9), chain("y", 9)
    index.insert("m", A, first[:5])
    assert index.match("m", A, first) == 5
    assert index.match("m", A, first[:5]) == 5
    assert index.match("m", A, first[:3] + second[3:]) == 3
    assert index.match("m", A, second[:1] + first[1:]) == 0
    assert index.match("m", A, ()) == 0
    assert index.match("m", B, first) == 0
    assert index.match("other", A, first) == 0
    index.insert("m", A, ())
    assert index.of("n") == {}


prompts = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.sampled_from("xyz"), st.integers(0, 12)), max_size=40
)


@given(prompts, st.integers(0, 20), st.integers(1, 40))
def test_the_search_finds_what_counting_finds(
    inserted: list[tuple[EndpointId, str, int]], capacity: int, most: int
) -> None:
    """Kills: first blocks touched before last ones (the front would be dropped first), a size that drifts."""
    index = PrefixIndex(most)
    for endpoint, name, count in inserted:
        # The first two blocks are shared by all: a system prompt.
        index.insert("m", endpoint, chain("shared", 2) + chain(name, count), capacity)
        assert index.size <= most + 1
        for name_ in "xyz":
            hashes = chain("shared", 2) + chain(name_, 12)
            for replica in (A, B, C):
                known = index.of("m").get(replica)
                held = known.blocks if known else {}
                counted = next((i for i, h in enumerate(hashes) if h not in held), len(hashes))
                assert index.match("m", replica, hashes) == counted
    assert index.size == sum(len(c.blocks) + len(c.reported) for c in index.of("m").values())


def test_a_small_cache_keeps_what_was_used_last() -> None:
    """Kills: capacity ignored, the newest dropped."""
    index = PrefixIndex()
    index.insert("m", A, chain("x", 6), 8)
    index.insert("m", A, chain("y", 6), 8)
    assert index.match("m", A, chain("y", 6)) == 6
    assert index.match("m", A, chain("x", 6)) == 2
    index.insert("m", A, chain("z", 6), 0)
    assert index.match("m", A, chain("z", 6)) == 0


def test_the_size_of_a_cache_is_learned_from_misses() -> None:
    """Kills: nothing learned, hits that shrink, no least size, growth without end, sizes that drift."""
    index = PrefixIndex()
    index.observed("m", A, 3, 0)
    index.insert("m", A, chain("x", 100))
    index.observed("m", A, 0, 0)
    index.observed("m", A, 10, 10)
    assert index.size == 100
    index.observed("m", A, 10, 9)
    assert index.size == 80
    assert index.match("m", A, chain("x", 100)) == 80
    index.insert("m", A, chain("y", 60))
    assert index.match("m", A, chain("y", 60)) == 60
    assert index.match("m", A, chain("x", 100)) == 20
    index.observed("m", A, 60, 60)
    index.insert("m", A, chain("z", 82))
    assert index.match("m", A, chain("z", 90)) == 82
    for _ in range(30):
        index.observed("m", A, 5, 4)
    assert index.size == len(index.of("m")[A].blocks) == 16
    for _ in range(3000):
        index.observed("m", A, 5, 5)
    assert index.of("m")[A].capacity == REPLICA_BLOCKS


def test_when_room_ends_everyone_gives_in_proportion() -> None:
    """Kills: no bound, one replica emptied for the others, the small ones kept with nothing."""
    index = PrefixIndex(100)
    index.insert("m", C, chain("one", 1))
    index.insert("m", A, chain("x", 60))
    index.insert("m", B, chain("y", 50))
    assert index.size <= 90
    assert index.match("m", A, chain("x", 60)) == 48
    assert index.match("m", B, chain("y", 50)) == 40
    assert C not in index.of("m")


def test_a_digest_is_the_newest_part_and_replaces_the_last_one() -> None:
    """Kills: the oldest 256, digests that pile up, a digest that hides what was sent, unbounded digests."""
    index, other = PrefixIndex(), PrefixIndex()
    assert index.digest("m", A) == ()
    old, new = chain("old", 200), chain("new", 200)
    index.insert("m", A, old)
    index.insert("m", A, new)
    digest = index.digest("m", A)
    assert len(digest) == DIGEST_BLOCKS
    assert digest[:2] == new[:2]
    assert other.install("m", A, digest, HASH_VERSION)
    assert other.match("m", A, new) == 200
    assert other.match("m", A, old) == 56
    other.insert("m", A, chain("sent", 7))
    assert other.match("m", A, chain("sent", 7)) == 7
    assert other.install("m", A, chain("next", 300), HASH_VERSION)
    assert other.match("m", A, new) == 0
    assert other.match("m", A, chain("next", 300)) == 256
    assert other.size == 7 + 256


def test_a_digest_counts_beside_what_was_sent_the_longer_match_wins() -> None:
    """Kills: the sent blocks only, the reported only, the sum of both."""
    index = PrefixIndex()
    hashes = chain("x", 9)
    index.insert("m", A, hashes[:3])
    index.install("m", A, hashes[:6], HASH_VERSION)
    assert index.match("m", A, hashes) == 6
    index.insert("m", A, hashes[:8])
    assert index.match("m", A, hashes) == 8


def test_digests_of_another_version_are_refused_and_all_are_bounded() -> None:
    """Kills: the version ignored, digests not counted."""
    index = PrefixIndex(300)
    assert not index.install("m", A, chain("x", 5), HASH_VERSION + 1)
    assert index.match("m", A, chain("x", 5)) == 0
    index.insert("m", C, chain("z", 100))
    index.install("m", A, chain("x", 256), HASH_VERSION)
    assert index.size <= 300
    assert A not in index.of("m")
    assert index.match("m", C, chain("z", 100)) > 50


def test_a_restart_empties_its_caches() -> None:
    """Kills: one model only, the size not lowered, a failure for the unknown."""
    index = PrefixIndex()
    index.insert("m", A, chain("x", 5))
    index.install("n", A, chain("y", 5), HASH_VERSION)
    index.insert("n", B, chain("y", 5))
    index.forget(A)
    index.forget(C)
    assert index.match("m", A, chain("x", 5)) == 0
    assert index.match("n", A, chain("y", 5)) == 0
    assert index.match("n", B, chain("y", 5)) == 5
    assert index.size == 5
    assert index.of("m") == {}


def test_holders_are_named_with_what_they_hold() -> None:
    """Kills: sent or reported ones missing, holders of nothing named."""
    index = PrefixIndex()
    hashes = chain("x", 9)
    index.insert("m", A, hashes[:2])
    index.install("m", B, hashes[:5], HASH_VERSION)
    index.insert("m", C, chain("y", 3))
    assert sorted(index.holders("m", hashes)) == [(2, A), (5, B)]
    assert not list(index.holders("m", ()))


@pytest.mark.parametrize("size", [0, 500])
def test_no_key_no_text_no_blocks(size: int) -> None:
    """Kills: an exception for what a client may send."""
    assert block_hashes(b"x" * size, [(0, size)], b"") == ()


def test_a_new_key_makes_everything_forgotten() -> None:
    """Kills: sizes that stay, which would shrink an empty index."""
    index = PrefixIndex()
    index.insert("m", EndpointId("e"), (b"1", b"2"))
    index.install("m", EndpointId("f"), [b"3"], HASH_VERSION)
    index.clear()
    assert index.size == 0
    assert not index.of("m")
