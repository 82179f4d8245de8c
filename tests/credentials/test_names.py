"""Names in certificates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmplane.credentials.certificate import subject_of_names
from swarmplane.credentials.names import (
    CONTROL_NAME,
    JOIN_NAME,
    Profile,
    Subject,
    control_subject,
    instance_id,
    node_server_name,
    node_subject,
    parse_san,
    user_subject,
)
from swarmplane.errors import UnauthenticatedError
from swarmplane.ids import NodeId, SwarmId

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(str.isascii)
subjects = st.one_of(
    st.builds(
        lambda profile, name, swarm: Subject(profile, name, SwarmId(swarm)),
        st.sampled_from(Profile),
        labels,
        labels,
    ),
    st.builds(lambda swarm: control_subject(SwarmId(swarm)), labels),
)


@given(subjects)
def test_names_go_there_and_back(subject: Subject) -> None:
    assert parse_san(subject.san) == subject


@given(subjects, subjects)
def test_no_two_subjects_of_a_swarm_have_one_id(subject: Subject, other: Subject) -> None:
    other = replace(other, swarm=subject.swarm)
    same = subject.id == other.id
    # Names of people cannot be mistaken for ids of nodes, of which none that is given out is "control".
    assert same == (subject == other) or {subject.name, other.name} == {"", "control"}


@given(st.text(), st.text())
def test_any_text_is_a_name_or_none(text: str, other: str) -> None:
    for name in (
        text,
        f"{text}.node.{other}",
        f"{text}.user.{other}",
        f"control.{text}",
        f"{text}.control.{other}",
    ):
        found = parse_san(name)
        assert found is None or found.san == name


def test_the_three_profiles() -> None:
    swarm = SwarmId("s1")
    assert node_subject(NodeId("n1"), swarm).san == node_server_name(NodeId("n1"), swarm) == "n1.node.s1"
    assert control_subject(swarm, "i1").san == "i1.control.s1"
    assert control_subject(swarm).san == "control.s1", "as earlier versions have it"
    assert user_subject("ada", swarm).san == "ada.user.s1"
    assert [
        node_subject(NodeId("n1"), swarm).id,
        control_subject(swarm, "i1").id,
        control_subject(swarm).id,
        user_subject("ada", swarm).id,
    ] == [
        "n1",
        "control:i1",
        "control",
        "user:ada",
    ]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="none"),
        pytest.param([CONTROL_NAME, JOIN_NAME], id="only-fixed-names"),
        pytest.param(["a.node.s", "b.node.s"], id="two-nodes"),
        pytest.param(["a.node.s", CONTROL_NAME], id="a-node-that-plays-the-control-plane"),
        pytest.param(["a.user.s", "example.com"], id="a-person-with-more-names"),
        pytest.param(["control.s", "a.node.s", CONTROL_NAME], id="two-profiles"),
        pytest.param(["a.control.s", "b.control.s", CONTROL_NAME], id="two-instances"),
        pytest.param(["example.com"], id="somebody-else"),
    ],
)
def test_a_certificate_that_names_nobody_or_too_much_is_refused(names: list[str]) -> None:
    with pytest.raises(UnauthenticatedError):
        subject_of_names(names)


def test_an_instance_has_the_fixed_names_too() -> None:
    assert subject_of_names(["control.s", CONTROL_NAME, JOIN_NAME]) == control_subject(SwarmId("s"))
    named = control_subject(SwarmId("s"), "i1")
    assert subject_of_names(["i1.control.s", CONTROL_NAME, JOIN_NAME]) == named
    assert instance_id("i1") == named.id
