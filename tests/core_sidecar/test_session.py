"""Sessions: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.session import Sessions, session_key
from swarmplane.ids import EndpointId

A, B = EndpointId("a/b/m"), EndpointId("b/b/m")
K = session_key("m", header="k")


def test_the_most_telling_name_makes_the_key() -> None:
    """Kills: `user` before the others, kinds that meet, models that meet, an empty name as a session."""
    names = {"header": "x", "conversation": "x", "prompt_cache_key": "x", "user": "x"}
    keys = []
    for kind in tuple(names):
        keys.append(session_key("m", **names))
        assert keys[-1] == session_key("m", **{kind: "x"})
        del names[kind]
    assert len(set(keys)) == 4
    assert session_key("m") == b""
    assert session_key("m", header="x") != session_key("n", header="x")
    assert session_key("m" * 300, header="x") != session_key("m" * 301, header="x")
    assert session_key("\ud800", header="\udfff") != session_key("\ud800", header="x")


def test_a_session_is_remembered_for_its_time() -> None:
    """Kills: `>` for `>=`, time from the first request, the time not renewed at the end."""
    sessions = Sessions(ttl_s=10.0)
    assert sessions.find(K, 0.0) is None
    sessions.begin(K, A, 0.0)
    sessions.end(K, A, 5.0)
    found = sessions.find(K, 14.9)
    assert found is not None
    assert found.endpoint == A
    assert sessions.find(K, 15.0) is None


def test_a_running_session_is_not_over() -> None:
    """Kills: expiry by time alone, in finding and in housekeeping."""
    sessions = Sessions(ttl_s=10.0)
    sessions.begin(K, A, 0.0)
    assert sessions.find(K, 1000.0) is not None
    sessions.housekeep(1000.0)
    assert len(sessions) == 1
    sessions.end(K, A, 1000.0)
    sessions.housekeep(1009.0)
    assert len(sessions) == 1
    sessions.housekeep(1010.0)
    assert len(sessions) == 0


def test_the_last_endpoint_counts_and_running_ones_are_counted() -> None:
    """Kills: the first endpoint kept, one count for all endpoints, an end that clears all."""
    sessions = Sessions()
    for endpoint in (A, A, B):
        sessions.begin(K, endpoint, 0.0)
    session = sessions.find(K, 0.0)
    assert session is not None
    assert session.endpoint == B
    assert session.running == {A: 2, B: 1}
    sessions.end(K, A, 0.0)
    sessions.end(K, B, 0.0)
    assert session.running == {A: 1}


def test_requests_without_a_session_leave_no_trace() -> None:
    """Kills: the empty key as a session of everybody's."""
    sessions = Sessions()
    sessions.begin(b"", A, 0.0)
    sessions.end(b"", A, 0.0)
    assert sessions.find(b"", 0.0) is None
    assert len(sessions) == 0


def test_the_bound_drops_the_one_not_used_for_longest() -> None:
    """Kills: no bound, the newest dropped, use that does not count."""
    sessions = Sessions(most=2)
    keys = [session_key("m", user=str(i)) for i in range(3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        sessions.begin(key, A, 0.0)
        sessions.end(key, A, 0.0)
    assert sessions.find(keys[1], 1.0) is None
    assert sessions.find(keys[0], 1.0) is not None
    assert len(sessions) == 2
    sessions.end(keys[1], A, 1.0)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.booleans()), max_size=30))
def test_counts_never_go_below_zero(steps: list[tuple[EndpointId, bool]]) -> None:
    """Kills: an end without its begin that counts to -1."""
    sessions = Sessions()
    counts = {A: 0, B: 0}
    for endpoint, begins in steps:
        if begins:
            sessions.begin(K, endpoint, 0.0)
            counts[endpoint] += 1
        else:
            sessions.end(K, endpoint, 0.0)
            counts[endpoint] = max(counts[endpoint] - 1, 0)
    session = sessions.find(K, 0.0)
    running = session.running if session else {}
    assert running == {endpoint: n for endpoint, n in counts.items() if n}
