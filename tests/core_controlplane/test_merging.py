"""Which models are one. Mutants that were tried and are killed: named in the tests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmplane.ids import EndpointId, ModelName
from swarmplane.merging import Merged, Offer, merge


def offer(place: str, name: str, quantization: str = "", digest: str = "") -> Offer:
    return Offer(EndpointId(f"{place}/{name}"), ModelName(name), place, digest, quantization)


def names(*offers: Offer, standing: dict[str, str] | None = None) -> dict[str, str]:
    """Names of the models, by endpoint."""
    stands = {EndpointId(key): ModelName(name) for key, name in (standing or {}).items()}
    return {key: one.name for one in merge(offers, stands) for key in one.endpoints}


def test_equal_name_and_quantisation_are_one_model() -> None:
    """Kills: quantisation compared by case, digests that must be equal too, unknown ones kept apart."""
    found = merge([offer("a", "m", "Q4_0", "sha256:1"), offer("b", "m", "q4_0", "sha256:2")])
    assert found == (Merged(ModelName("m"), (), (EndpointId("a/m"), EndpointId("b/m"))),)
    assert names(offer("a", "m"), offer("b", "m")) == {"a/m": "m", "b/m": "m"}


def test_another_quantisation_is_another_model() -> None:
    """Kills: merged by name alone, unknown taken for equal, the name given to both."""
    assert names(offer("a", "m", "Q4_0"), offer("b", "m", "Q8_0")) == {"a/m": "m", "b/m": "m@Q8_0"}
    assert names(offer("a", "m"), offer("b", "m", "Q8_0")) == {"a/m": "m@unknown", "b/m": "m"}


def test_an_equal_digest_is_one_model_under_any_name() -> None:
    """Kills: names that must be equal, the rarer name chosen, further names lost, quantisation compared."""
    found = merge(
        [offer("a", "m", "", "d"), offer("b", "m:latest", "Q4_0", "d"), offer("c", "m:latest", "Q4_0", "d")]
    )
    endpoints = (EndpointId("a/m"), EndpointId("b/m:latest"), EndpointId("c/m:latest"))
    assert found == (Merged(ModelName("m:latest"), (ModelName("m"),), endpoints),)


def test_what_one_backend_lists_twice_stays_two() -> None:
    """Kills: joined without a look at places, joined through a third."""
    twice = [offer(place, name, "Q4_0", "d") for place in "ab" for name in ("x", "y")]
    assert set(names(*twice).values()) == {"x", "y"}
    found = names(*twice[:2], offer("c", "z", "Q4_0", "d"))
    assert found["a/x"] != found["a/y"]


def test_who_has_a_name_keeps_it() -> None:
    """Kills: standing names ignored, who stands apart called back when its rival is away."""
    few, many = offer("a", "m", "Q8_0"), [offer(place, "m", "Q4_0") for place in "bc"]
    assert names(few, *many)["a/m"] == "m@Q8_0"
    kept = names(few, *many, standing={"a/m": "m"})
    assert (kept["a/m"], kept["b/m"]) == ("m", "m@Q4_0")
    away = names(few, *many, standing={"b/m": "m@Q4_0", "c/m": "m@Q4_0"})
    assert (away["a/m"], away["b/m"]) == ("m", "m@Q4_0")
    alone = names(*many, standing={"b/m": "m@Q4_0", "c/m": "m@Q4_0"})
    assert set(alone.values()) == {"m"}


def test_a_name_made_up_is_nobodys() -> None:
    """Kills: a made name that a backend uses, two made names alike."""
    found = names(offer("a", "m", "Q4_0"), offer("b", "m", "Q8_0"), offer("c", "m@Q8_0", "Q2_K"))
    assert found == {"a/m": "m", "b/m": "m@Q8_0-2", "c/m@Q8_0": "m@Q8_0"}
    alike = names(
        offer("a", "m", "Q4_0"), offer("b", "m", "Q4_0"), offer("c", "m"), offer("d", "m", "unknown")
    )
    assert sorted(alike.values()) == ["m", "m", "m@unknown", "m@unknown-2"]


offers = st.lists(
    st.builds(
        offer,
        st.sampled_from("abcd"),
        st.sampled_from(["m", "n", "m@q4"]),
        st.sampled_from(["", "q4", "q8"]),
        st.sampled_from(["", "1", "2"]),
    ),
    max_size=8,
    unique_by=lambda one: one.endpoint,
)


@given(offers, st.randoms(use_true_random=False))
def test_every_offer_is_in_one_model_whatever_the_order(found: list[Offer], draw: object) -> None:
    """Kills: offers lost or doubled, names doubled, an order that matters, equals kept apart."""
    merged = merge(found)
    assert sorted(key for one in merged for key in one.endpoints) == sorted(one.endpoint for one in found)
    told = [name for one in merged for name in (one.name, *one.further)]
    assert len(told) == len(set(told))
    draw.shuffle(found)  # type: ignore[attr-defined]
    assert merge(found) == merged
    name = {key: one.name for one in merged for key in one.endpoints}
    for one in found:
        for other in found:
            if one.name == other.name and one.quantization == other.quantization:
                assert name[one.endpoint] == name[other.endpoint]
            elif name[one.endpoint] == name[other.endpoint]:
                assert one.place != other.place
    again = {key: one.name for one in merge(found, name) for key in one.endpoints}
    assert again == name
