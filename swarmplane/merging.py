"""Which models of different backends are one model, and what it is called.

Two are one where their digests are equal, or their names and quantisations. Others of the same name are kept
apart: one keeps the name, the others are called ``name@quantisation``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from swarmplane.ids import EndpointId, ModelName

_LONGEST_STEM: Final = 180
_UNKNOWN: Final = "unknown"
_NOBODY: Final[Mapping[EndpointId, ModelName]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Offer:
    """A model at a backend."""

    endpoint: EndpointId
    name: ModelName
    """As its backend's people call it."""
    place: str = ""
    """Node and backend: what one backend lists under two names it means to be two models."""
    digest: str = ""
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """One model."""

    name: ModelName
    further: tuple[ModelName, ...]
    """Other names under which backends have it, sorted; nobody else's."""
    endpoints: tuple[EndpointId, ...]


@dataclass(slots=True)
class _Kind:
    """Offers of one name and quantisation, and what was joined to them."""

    name: ModelName
    quantization: str
    endpoints: list[EndpointId] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    names: Counter[ModelName] = field(default_factory=Counter)

    def absorb(self, other: _Kind) -> None:
        self.endpoints += other.endpoints
        self.places |= other.places
        self.names += other.names
        self.quantization = self.quantization or other.quantization


def merge(offers: Iterable[Offer], standing: Mapping[EndpointId, ModelName] = _NOBODY) -> tuple[Merged, ...]:
    """The models that ``offers`` are, ordered by name; each offer is in one.

    ``standing`` are names that hold now: who has a name keeps it, so that no name changes its model because
    somebody came. The order of ``offers`` does not matter. O(offers log offers).
    """
    kinds = _joined(_kinds(offers))
    claims: dict[ModelName, list[_Kind]] = defaultdict(list)
    for kind in kinds:
        for name in kind.names:
            claims[name].append(kind)
    held: dict[int, list[ModelName]] = defaultdict(list)
    for name, claimants in claims.items():
        held[id(_holder(name, claimants, standing))].append(name)
    taken = set(claims)
    found = []
    for kind in sorted(kinds, key=lambda one: (one.name, one.quantization.casefold())):
        names = held[id(kind)]
        name = _chosen(kind, names, standing) if names else _apart(kind, taken)
        further = tuple(sorted(other for other in names if other != name))
        found.append(Merged(name, further, tuple(sorted(kind.endpoints))))
    return tuple(sorted(found, key=lambda one: one.name))


def _kinds(offers: Iterable[Offer]) -> list[_Kind]:
    kinds: dict[tuple[ModelName, str], _Kind] = {}
    for offer in sorted(offers, key=lambda one: one.endpoint):
        key = (offer.name, offer.quantization.casefold())
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = _Kind(offer.name, offer.quantization)
        kind.endpoints.append(offer.endpoint)
        kind.places.add(offer.place)
        kind.names[offer.name] += 1
        if offer.digest:
            kind.digests.add(offer.digest)
    return [kinds[key] for key in sorted(kinds)]


def _joined(kinds: list[_Kind]) -> Iterable[_Kind]:
    """``kinds`` with those of a common digest made one, unless a backend lists both."""
    left: dict[int, _Kind] = {}
    by_digest: dict[str, list[_Kind]] = defaultdict(list)
    for kind in kinds:
        host = next((o for o in _of(kind, by_digest) if kind.places.isdisjoint(o.places)), None)
        if host is None:
            left[id(kind)] = host = kind
        else:
            host.absorb(kind)
        for digest in kind.digests:
            if not any(one is host for one in by_digest[digest]):
                by_digest[digest].append(host)
    return left.values()


def _of(kind: _Kind, by_digest: Mapping[str, list[_Kind]]) -> Iterator[_Kind]:
    for digest in sorted(kind.digests):
        yield from by_digest.get(digest, ())


def _holder(name: ModelName, claimants: list[_Kind], standing: Mapping[EndpointId, ModelName]) -> _Kind:
    if len(claimants) == 1:
        return claimants[0]

    def rank(kind: _Kind) -> tuple[int, int, int, bool, str]:
        names = [standing[key] for key in kind.endpoints if key in standing]
        has = sum(one == name for one in names)
        # Who stands under a made name has let its own go; who is away has not.
        let_go = sum(one not in kind.names for one in names)
        return (-has, let_go, -kind.names[name], not kind.quantization, kind.quantization.casefold())

    return min(claimants, key=rank)


def _chosen(kind: _Kind, names: list[ModelName], standing: Mapping[EndpointId, ModelName]) -> ModelName:
    stands = Counter(standing[key] for key in kind.endpoints if key in standing)
    return min(names, key=lambda name: (-stands[name], -kind.names[name], name))


def _apart(kind: _Kind, taken: set[ModelName]) -> ModelName:
    stem = f"{kind.name[:_LONGEST_STEM]}@{kind.quantization or _UNKNOWN}"
    name, number = ModelName(stem), 1
    while name in taken:
        number += 1
        name = ModelName(f"{stem}-{number}")
    taken.add(name)
    return name
