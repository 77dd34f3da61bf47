"""What is on the appliance already, and becomes Cinder's, or no longer is.

A reference is either ``{"source-id": ID}``, a volume's or snapshot's id on the appliance, or
``{"source-name": "POOL/THIN-ID"}``, a thin device that belongs to none.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cinder import context as cinder_context
from cinder import exception, objects
from cinder.volume import volume_utils

from ashlar_cinder import errors, specs
from ashlar_cinder.client import Problem
from ashlar_cinder.client.objects import Pool, Snapshot, ThinDevice, Volume
from ashlar_cinder.core import LABEL, Core
from ashlar_cinder.stats import GIB

_ID = "source-id"
_NAME = "source-name"

Entry = dict[str, Any]
#: What is on the appliance.
There = TypeVar("There", Volume, Snapshot)


class Manage(Core):
    """The methods of a driver that are about what it did not make."""

    # ---- Volumes -------------------------------------------------------------------------------

    def manage_existing_get_size(self, volume: Any, existing_ref: Mapping[str, str]) -> int:
        """The size in GiB, rounded up."""
        return self._size(existing_ref, self._client.volume)

    def manage_existing(
        self, volume: Any, existing_ref: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Makes a volume Cinder's."""
        with errors.told(_reference(existing_ref)):
            if _ID not in existing_ref:
                adopted = self._adopted(existing_ref)
                self._check_pool(existing_ref, volume["host"], self._source(existing_ref)[0])
                spec = self._new_volume(volume) | adopted
                self._client.adopt_volume(uuid.UUID(volume["id"]), spec)
                return None
            there = self._client.volume(_id(existing_ref))
            self._check_pool(existing_ref, volume["host"], uuid.UUID(bytes=there["pool"]))
            labels = there.get("labels", {})
            if labels.get(LABEL, volume["id"]) != volume["id"]:
                raise exception.ManageExistingAlreadyManaged(volume_ref=labels[LABEL])
            update = {
                "labels": labels | {LABEL: volume["id"]},
            } | specs.of_type(volume["volume_type"]).to_update()
            try:
                self._client.update_volume(_id(existing_ref), update)
            except Problem as problem:
                if problem.code not in {"no-space", "unsupported", "out-of-range"}:
                    raise
                raise exception.ManageExistingVolumeTypeMismatch(reason=str(problem)) from problem
        found = str(_id(existing_ref))
        return None if found == volume["id"] else {"_name_id": found}

    def unmanage(self, volume: Any) -> None:
        """Leaves a volume as it is, and no longer Cinder's."""
        volume_id = self._volume_id(volume)
        with errors.told():
            try:
                labels = self._client.volume(volume_id).get("labels", {})
                left = {key: value for key, value in labels.items() if key != LABEL}
                self._client.update_volume(volume_id, {"labels": left})
            except Problem as problem:
                if problem.code != "not-found":
                    raise

    def get_manageable_volumes(
        self,
        cinder_volumes: Sequence[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[Entry]:
        """What the backend's pools have, Cinder's or not."""
        known = {str(self._volume_id(volume)): volume["id"] for volume in cinder_volumes}
        with errors.told():
            pools = self._own_pools(self._client.pools())
            entries = _entries(self._client.volumes(), pools, known, _volume_entry)
            for pool in pools:
                entries += self._thin_entries(pool["name"], uuid.UUID(bytes=pool["id"]))
        return _page(entries, marker, limit, offset, sort_keys, sort_dirs)

    # ---- Snapshots -----------------------------------------------------------------------------

    def manage_existing_snapshot_get_size(
        self, snapshot: Any, existing_ref: Mapping[str, str]
    ) -> int:
        """The size in GiB, rounded up."""
        return self._size(existing_ref, self._client.snapshot)

    def manage_existing_snapshot(
        self, snapshot: Any, existing_ref: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Makes a snapshot Cinder's."""
        volume = self._volume_id(snapshot["volume"])
        with errors.told(_reference(existing_ref)):
            if _ID not in existing_ref:
                spec = {
                    "name": snapshot["name"],
                    "volume": volume,
                    "labels": {LABEL: snapshot["id"]},
                } | self._adopted(existing_ref)
                self._client.adopt_snapshot(uuid.UUID(snapshot["id"]), spec)
                return None
            there = self._client.snapshot(_id(existing_ref))
        if there["volume"] != volume.bytes:
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref, reason=f"it is no snapshot of volume {volume}"
            )
        found = str(_id(existing_ref))
        self._check_snapshot_free(snapshot, found)
        return {"provider_id": found}

    @staticmethod
    def _check_snapshot_free(snapshot: Any, found: str) -> None:
        """Labels of snapshots cannot be changed, so Cinder's own records are asked."""
        context = cinder_context.get_admin_context()
        others = objects.SnapshotList.get_all_for_volume(context, snapshot["volume_id"])
        for other in others:
            if other["id"] != snapshot["id"] and found in {other["id"], other["provider_id"]}:
                raise exception.ManageExistingAlreadyManaged(volume_ref=other["id"])

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Leaves a snapshot as it is: that it was Cinder's, Cinder alone knows."""

    def get_manageable_snapshots(
        self,
        cinder_snapshots: Sequence[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[Entry]:
        """What snapshots the backend's pools have, Cinder's or not."""
        known = {str(self._snapshot_id(snapshot)): snapshot["id"] for snapshot in cinder_snapshots}
        with errors.told():
            pools = self._own_pools(self._client.pools())
            entries = _entries(self._client.snapshots(), pools, known, _snapshot_entry)
        return _page(entries, marker, limit, offset, sort_keys, sort_dirs)

    # ---- References ----------------------------------------------------------------------------

    def _size(self, existing_ref: Mapping[str, str], look: Callable[[uuid.UUID], There]) -> int:
        with errors.told(_reference(existing_ref)):
            if _ID in existing_ref:
                return _gib(look(_id(existing_ref))["size"])
            return _gib(self._thin(existing_ref)["end"])

    def _adopted(self, existing_ref: Mapping[str, str]) -> dict[str, Any]:
        """What of an adoption the thin device says."""
        thin = self._thin(existing_ref)
        return {"thin_id": thin["thin_id"], "size": _gib(thin["end"]) * GIB}

    def _source(self, existing_ref: Mapping[str, str]) -> tuple[uuid.UUID, int]:
        """The pool and the thin device that a reference names."""
        pool, slash, thin = str(existing_ref.get(_NAME, "")).rpartition("/")
        if not slash or not thin.isdecimal():
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref,
                reason=f"it is neither {_ID}: ID nor {_NAME}: POOL/THIN-ID",
            )
        self._own_pools(self._client.pools())
        found = self._pools.get(pool)
        if found is None:
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref, reason=f"there is no pool named {pool!r}"
            )
        return found, int(thin)

    def _thin(self, existing_ref: Mapping[str, str]) -> ThinDevice:
        pool, thin_id = self._source(existing_ref)
        for thin in self._client.thin_devices(pool):
            if thin["thin_id"] == thin_id:
                if not thin["adoptable"]:
                    _refuse_thin(existing_ref, thin)
                return thin
        raise exception.ManageExistingInvalidReference(
            existing_ref=existing_ref, reason=f"there is no thin device {thin_id}"
        )

    def _check_pool(self, existing_ref: Mapping[str, str], host: str, found: uuid.UUID) -> None:
        if found != self._pool_id(host):
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref, reason=f"it is not in the pool of {host}"
            )

    def _thin_entries(self, name: str, pool: uuid.UUID) -> Iterator[Entry]:
        for thin in self._client.thin_devices(pool):
            if thin["adoptable"]:
                yield {
                    "reference": {_NAME: f"{name}/{thin['thin_id']}"},
                    "size": _gib(thin["end"]),
                    "safe_to_manage": True,
                    "reason_not_safe": None,
                    "cinder_id": None,
                    "extra_info": {"kind": "thin device", "bytes used": str(thin["used"])},
                }


def _refuse_thin(existing_ref: Mapping[str, str], thin: ThinDevice) -> None:
    if thin.get("reason") == "owned" and "volume" in thin:
        raise exception.ManageExistingAlreadyManaged(
            volume_ref=str(uuid.UUID(bytes=thin["volume"]))
        )
    raise exception.ManageExistingInvalidReference(
        existing_ref=existing_ref, reason=f"it cannot be adopted: {thin.get('reason')}"
    )


def _id(existing_ref: Mapping[str, str]) -> uuid.UUID:
    try:
        return uuid.UUID(existing_ref[_ID])
    except (ValueError, AttributeError, TypeError) as error:
        raise exception.ManageExistingInvalidReference(
            existing_ref=existing_ref, reason=f"{_ID} is no UUID"
        ) from error


def _reference(existing_ref: Mapping[str, str]) -> dict[str, errors.Maker]:
    def invalid(problem: Problem) -> Exception:
        return exception.ManageExistingInvalidReference(
            existing_ref=existing_ref, reason=str(problem)
        )

    def managed(problem: Problem) -> Exception:
        return exception.ManageExistingAlreadyManaged(volume_ref=str(problem))

    return {
        "not-found": invalid,
        "invalid-field": invalid,
        "out-of-range": invalid,
        "already-exists": managed,
        "duplicate": managed,
    }


def _gib(size: int) -> int:
    return max(1, -(-size // GIB))


def _entries(
    there: Iterable[There],
    pools: Sequence[Pool],
    known: Mapping[str, str],
    entry: Callable[[There, Mapping[str, str]], Entry],
) -> list[Entry]:
    ids = {pool["id"] for pool in pools}
    return [entry(one, known) for one in there if one["pool"] in ids]


def _volume_entry(volume: Volume, known: Mapping[str, str]) -> Entry:
    label = volume.get("labels", {}).get(LABEL)
    why = None
    if label:
        why = f"another Cinder's, as volume {label}"
    elif volume["connections"]:
        why = "hosts use it"
    return _entry("volume", volume, why, known)


def _snapshot_entry(snapshot: Snapshot, known: Mapping[str, str]) -> Entry:
    why = "it belongs to a group snapshot" if "group" in snapshot else None
    source = {_ID: str(uuid.UUID(bytes=snapshot["volume"]))}
    return _entry("snapshot", snapshot, why, known) | {"source_reference": source}


def _entry(kind: str, one: Volume | Snapshot, why: str | None, known: Mapping[str, str]) -> Entry:
    """``why`` is what only its kind can be unsafe for."""
    found = str(uuid.UUID(bytes=one["id"]))
    if found in known:
        why = "already managed"
    elif why is None and one["state"] != "available":
        why = f"it is {one['state']}"
    return {
        "reference": {_ID: found},
        "size": _gib(one["size"]),
        "safe_to_manage": why is None,
        "reason_not_safe": why,
        "cinder_id": known.get(found),
        "extra_info": {"kind": kind, "name": one["name"]},
    }


def _page(
    entries: Iterable[Entry],
    marker: Any,
    limit: int,
    offset: int,
    sort_keys: list[str],
    sort_dirs: list[str],
) -> list[Entry]:
    page: list[Entry] = volume_utils.paginate_entries_list(
        list(entries), marker, limit, offset, sort_keys, sort_dirs
    )
    return page
