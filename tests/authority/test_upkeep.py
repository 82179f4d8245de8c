"""What an instance does for itself while it serves."""

from __future__ import annotations

import time

from controlplane.process.upkeep import Upkeep
from controlplane.services import keyspace
from controlplane.services.audit import audit_record, trim_audit
from controlplane.services.denials import denial
from controlplane.services.ulids import new_ulid
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.credentials.lifetime import DAY_S
from swarmplane.ids import SubjectId
from tests.fakes.authority import Instance, presented_certificate


def upkeep_of(instance: Instance) -> Upkeep:
    return Upkeep(
        instance.store,
        instance.authority,
        instance.data_dir,
        instance.certificate,
        clock=SystemClock(),
        unix_s=instance.wall,
    )


async def test_nothing_is_done_before_it_is_due(instance: Instance) -> None:
    shown, admin = await presented_certificate(instance.control_address), instance.admin
    revision = await instance.store.revision()
    await upkeep_of(instance).once()
    assert await presented_certificate(instance.control_address) == shown
    assert instance.admin == admin
    assert await instance.store.revision() == revision


async def test_both_certificates_are_renewed_in_time(instance: Instance) -> None:
    shown, admin = await presented_certificate(instance.control_address), instance.admin
    instance.wall.ahead_s = 11 * DAY_S
    await upkeep_of(instance).once()
    assert await presented_certificate(instance.control_address) != shown
    assert instance.admin.facts().not_after_s > admin.facts().not_after_s


async def test_an_admin_that_was_denied_is_not_renewed(instance: Instance) -> None:
    admin = instance.admin
    put = denial(SubjectId("user:admin"), "for a test", time.time())
    await instance.store.put(put.key, put.value)
    instance.wall.ahead_s = 11 * DAY_S
    await upkeep_of(instance).once()
    assert instance.admin == admin


async def test_the_audit_is_kept_by_count_and_age(instance: Instance) -> None:
    now_s = time.time()
    actor = SubjectId("control")
    for days in range(100, 0, -10):
        put = audit_record(now_s - days * DAY_S, actor, "test", str(days), "")
        await instance.store.put(put.key, put.value)
    assert await trim_audit(instance.store, now_s, keep_s=55 * DAY_S) == 5

    async def kept() -> list[str]:
        found = (await instance.store.range(keyspace.AUDITS)).items
        return [records.Audit.FromString(kv.value).subject for kv in found]

    assert (await kept())[:5] == ["50", "40", "30", "20", "10"]
    assert await trim_audit(instance.store, now_s, keep_records=3) == len(["50", "40", "30"])
    assert (await kept())[:2] == ["20", "10"]
    assert await trim_audit(instance.store, now_s) == 0


def test_ulids_sort_by_time() -> None:
    made = [new_ulid(at_s) for at_s in (0.0, 1.0, 1.5, 1_700_000_000.0, 2_000_000_000.5)]
    assert made == sorted(made)
    assert {len(one) for one in made} == {26}
    assert len({new_ulid(5.0) for _ in range(100)}) == 100
