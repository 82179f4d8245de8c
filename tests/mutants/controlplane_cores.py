"""Bugs that someone could put into the cores of the control plane; see :mod:`tests.mutants.try_cores`."""

from __future__ import annotations

from typing import Final

from tests.mutants.core import Core

CONTROLPLANE: Final = (
    Core(
        "controlplane/core/admission.py",
        ("test_admission",),
        (
            "places are not bounded",
            "if line.inside < policy.places and not line.waiting:",
            "if not line.waiting:",
        ),
        (
            "who comes later overtakes the line",
            "if line.inside < policy.places and not line.waiting:",
            "if line.inside < policy.places:",
        ),
        ("the mean forgets everything", "_NEW_WEIGHT * (took_s - line.each_s)", "(took_s - line.each_s)"),
        ("who gave up keeps its place", "return replace(line, waiting=line.waiting - 1)", "return line"),
        (
            "turns are told to all alike",
            "return replace(line, told_until_s=told_s), Answer.LATER",
            "return line, Answer.LATER",
        ),
    ),
    Core(
        "controlplane/core/aliases.py",
        ("test_compiled_aliases",),
        (
            "an alias hides another model's name",
            "if name is not None and alias not in known:",
            "if name is not None:",
        ),
        ("own aliases are lost", "(*route.aliases, *found[name])", "tuple(found[name])"),
        ("an order of the store's", "sorted(aliases.items())", "aliases.items()"),
        (
            "a further name is not known",
            "name = model if model in routes else known.get(model)",
            "name = model if model in routes else None",
        ),
    ),
    Core(
        "controlplane/core/aperture.py",
        ("test_aperture",),
        ("a run that does not wrap", "(*run, *ring[: SIZE - len(run)])", "run"),
        ("rings of former endpoints", "if before.get(model) == endpoints else", "if model in before else"),
        ("the version is left alone", "self.version += 1", "self.version += 0"),
        ("a small model's run", "if len(ring) <= WHOLE:", "if False:"),
    ),
    Core(
        "controlplane/core/boards.py",
        ("test_boards",),
        ("others' endpoints", "if owner_of(one.endpoint) == node)", ")"),
        (
            "a word that is never too old",
            "if word is None or now_s - word.taken_s >= word.condition.valid_s:",
            "if word is None:",
        ),
        ("no bound per node", "if len(own) > self._most_of_a_node:", "if False:"),
        ("what did not change is told again", "or self._digests.get(one.endpoint) == one:", "or False:"),
    ),
    Core(
        "controlplane/core/doubts.py",
        ("test_doubts", "test_membership"),
        ("many at once are doubted", "silent & written if many else silent", "silent"),
        ("nobody is doubted", "silent & written if many else silent", "silent & written"),
        ("written though nothing changed", "return None if wanted == written else wanted", "return wanted"),
    ),
    Core(
        "controlplane/core/election.py",
        ("test_election",),
        ("an old renewal shortens a tenure", "max(tenure.sent_s, sent_s)", "sent_s"),
        ("held to the lease's last moment", "- policy.margin_s", ""),
        ("held for ever", "tenure is not None and now_s < ends_s(tenure, policy)", "tenure is not None"),
    ),
    Core(
        "controlplane/core/fallbacks.py",
        ("test_places_to_pull",),
        ("a model has rules", "if model and fallbacks != NO_FALLBACKS:", "if False:"),
        ("the swarm has a chain", "if chain and not model:", "if False:"),
        ("a rule that names nobody", "if not rule.models:", "if False:"),
        (
            "sizes that fit no model",
            "rule.below_bytes <= rule.from_bytes:",
            "rule.below_bytes < rule.from_bytes:",
        ),
        (
            "one too many to pull",
            "if len(fallbacks.auto_pull) > MOST_PULLED:",
            "if len(fallbacks.auto_pull) > MOST_PULLED + 1:",
        ),
    ),
    Core(
        "controlplane/core/happenings.py",
        ("test_happenings", "test_places_to_pull"),
        ("gone is told again and again", "if after.gone and not before.gone:", "if after.gone:"),
        ("the same life joins twice", "if after is None or before == after:", "if after is None:"),
        (
            "unready endpoints are ready",
            "any(endpoint.ready for endpoint in route.endpoints)",
            "bool(route.endpoints)",
        ),
        (
            "a pattern is a name",
            'kind.startswith(pattern[:-1]) if pattern.endswith(".*") else kind == pattern',
            "kind == pattern",
        ),
    ),
    Core(
        "controlplane/core/loads.py",
        ("test_overlays",),
        ("others' endpoints", "for e in entries if owner_of(e.endpoint) == node", "for e in entries"),
        ("the age at the sender is lost", "now_s - e.age_ms / 1000", "now_s"),
        ("no bound", "while len(reports) > MOST_OF_A_NODE:", "while False:"),
        ("queued ones do not count", "report.entry.queued + sum(", "sum("),
    ),
    Core(
        "controlplane/core/membership.py",
        ("test_membership", "test_doubts"),
        ("no hold after a mass loss", "if fresh and len(recent) > limit:", "if False:"),
        ("excuses are not heard", " and now_s >= sighting.excused_until_s", ""),
        ("a second life beside a live one", "return silent is None or silent", "return True"),
        (
            "one lost node is a mass",
            "max(policy.mass_floor, policy.mass_ratio * population)",
            "policy.mass_ratio * population",
        ),
        ("suspected is live", "Standing.LIVE if present and not suspected", "Standing.LIVE if present"),
    ),
    Core(
        "controlplane/core/names.py",
        ("test_compiled_routes",),
        ("no bound in bytes", "        and len(text.encode()) <= MOST_BYTES\n", ""),
        ("what can't be printed", "        and text.isprintable()\n", ""),
        ("nothing is a spelling", "0 < len(text) <= MOST_SPELLED", "len(text) <= MOST_SPELLED"),
    ),
    Core(
        "controlplane/core/pulling.py",
        ("test_places_to_pull",),
        ("backends that can't pull", "b.kind == _PULLS and b.healthy", "b.healthy"),
        ("dead backends", "b.kind == _PULLS and b.healthy", "b.kind == _PULLS"),
        ("the least memory", "-_free_bytes(place.inventory)", "_free_bytes(place.inventory)"),
        ("cold models take memory", "    if model.state is ModelState.LOADED\n", ""),
        ("a failure is repeated at once", "return state != FAILED or silent_s >= AGAIN_S", "return True"),
    ),
    Core(
        "controlplane/core/reachability.py",
        ("test_overlays",),
        ("one who can't reach it is enough", "not all(reports.values())", "not any(reports.values())"),
        ("reports of the departed", "            reports.pop(node, None)\n", "            pass\n"),
    ),
    Core(
        "controlplane/core/resume.py",
        ("test_resume",),
        ("another store's revisions", "have.generation != present.generation or", ""),
        (
            "what was buried too long ago",
            "Resume.SNAPSHOT if have.revision < horizon else Resume.DELTA",
            "Resume.DELTA",
        ),
        ("who is ahead gets less", "if have.revision > present.revision:", "if False:"),
        (
            "the removed are not told",
            "for key in buried if not isinstance(key, tuple)",
            "for key in () if not isinstance(key, tuple)",
        ),
        (
            "who comes back is removed too",
            "self._tombstones.pop(key, None)\n        self._touched.pop(key, None)\n        self._touched",
            "self._touched.pop(key, None)\n        self._touched",
        ),
    ),
    Core(
        "controlplane/core/routes.py",
        ("test_compiled_routes", "test_merging"),
        ("the unhealthy serve", "node.routable and backend.healthy and", "node.routable and"),
        ("one that loads is ready", "ready=not loading,", "ready=True,"),
        ("the forgotten stay", "if node.forgotten:", "if False:"),
        (
            "one node fills the table",
            "return islice(_possible(inventory), MOST_OF_A_NODE)",
            "return _possible(inventory)",
        ),
        (
            "every route is written each time",
            "replace(standing[name], revision=0) != r",
            "standing[name] is not r",
        ),
        ("a drain takes nothing away", "if e.ready and not e.draining)", "if e.ready)"),
    ),
)
