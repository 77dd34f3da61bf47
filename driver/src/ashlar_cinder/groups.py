"""Groups whose snapshots are of one instant. Cinder does the others by itself, one by one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from cinder.objects import fields
from cinder.volume import volume_utils
from oslo_log import log as logging

from ashlar_cinder import errors, specs
from ashlar_cinder.client import Problem
from ashlar_cinder.client.calls import Item
from ashlar_cinder.core import LABEL, Core

LOG = logging.getLogger(__name__)

Updates = list[dict[str, Any]]


def _check_consistent(group: Any) -> None:
    if not volume_utils.is_group_a_cg_snapshot_type(group):
        # Cinder takes this as leave to do it by itself.
        raise NotImplementedError


class Groups(Core):
    """The methods of a driver that are about groups."""

    def create_group(self, context: Any, group: Any) -> dict[str, Any]:
        """Makes a group without members."""
        _check_consistent(group)
        with errors.told():
            self._client.create_group(uuid.UUID(group["id"]), {"name": _name(group)})
        return {"status": fields.GroupStatus.AVAILABLE}

    def delete_group(
        self, context: Any, group: Any, volumes: Sequence[Any]
    ) -> tuple[dict[str, Any], Updates]:
        """Dissolves a group and destroys its members."""
        _check_consistent(group)
        with errors.told():
            try:
                self._client.delete_group(uuid.UUID(group["id"]))
            except Problem as problem:
                if problem.code != "not-found":
                    raise
            refusals = self._delete_volumes([self._volume_id(volume) for volume in volumes])
        updates: Updates = []
        for volume, refused in zip(volumes, refusals, strict=True):
            if refused is not None:
                LOG.error(
                    "Volume %(id)s was not deleted with its group: %(problem)s",
                    {"id": volume["id"], "problem": refused},
                )
            status = "deleted" if refused is None else "error_deleting"
            updates.append({"id": volume["id"], "status": status})
        failed = any(update["status"] != "deleted" for update in updates)
        status = fields.GroupStatus.ERROR_DELETING if failed else fields.GroupStatus.DELETED
        return {"status": status}, updates

    def update_group(
        self,
        context: Any,
        group: Any,
        add_volumes: Sequence[Any] | None = None,
        remove_volumes: Sequence[Any] | None = None,
    ) -> tuple[dict[str, Any], None, None]:
        """Adds members and removes them."""
        _check_consistent(group)
        update = {
            "add": [self._volume_id(volume) for volume in add_volumes or []],
            "remove": [self._volume_id(volume) for volume in remove_volumes or []],
        }
        with errors.told():
            self._client.update_group(uuid.UUID(group["id"]), update)
        return {"status": fields.GroupStatus.AVAILABLE}, None, None

    def create_group_from_src(
        self,
        context: Any,
        group: Any,
        volumes: Sequence[Any],
        group_snapshot: Any = None,
        snapshots: Sequence[Any] | None = None,
        source_group: Any = None,
        source_vols: Sequence[Any] | None = None,
    ) -> tuple[dict[str, Any], None]:
        """Makes a group of copies, all of one instant."""
        _check_consistent(group)
        source: dict[str, Any] = {}
        if group_snapshot:
            source["group_snapshot"] = uuid.UUID(group_snapshot["id"])
            originals = [self._snapshot_id(snapshot) for snapshot in snapshots or []]
        else:
            source["group"] = uuid.UUID(source_group["id"])
            originals = [self._volume_id(volume) for volume in source_vols or []]
        source["volumes"] = [
            {"source": original, "volume": self._volume_id(volume)}
            for original, volume in zip(originals, volumes, strict=True)
        ]
        with errors.told():
            spec = {"name": _name(group), "source": source}
            self._client.create_group(uuid.UUID(group["id"]), spec)
            self._name_copies(volumes)
        return {"status": fields.GroupStatus.AVAILABLE}, None

    def _name_copies(self, volumes: Sequence[Any]) -> None:
        """Has copies be called and be like what Cinder has for them, not their originals."""
        items = []
        for volume in volumes:
            update = {
                "name": volume["name"],
                "labels": {LABEL: volume["id"]},
            } | specs.of_type(volume["volume_type"]).to_update()
            items.append(Item("POST", f"/v1/volumes/{self._volume_id(volume)}/update", update))
        for problem in self._client.bulk(items):
            if problem is not None:
                raise problem

    def create_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[dict[str, Any], Updates]:
        """Takes snapshots of all members at one instant."""
        _check_consistent(group_snapshot)
        spec = {
            "name": _name(group_snapshot),
            "group": uuid.UUID(group_snapshot["group_id"]),
            "snapshots": [
                {
                    "volume": self._volume_id(snapshot["volume"]),
                    "snapshot": self._snapshot_id(snapshot),
                }
                for snapshot in snapshots
            ],
        }
        with errors.told():
            self._client.create_group_snapshot(uuid.UUID(group_snapshot["id"]), spec)
        status = fields.SnapshotStatus.AVAILABLE
        updates = [{"id": snapshot["id"], "status": status} for snapshot in snapshots]
        return {"status": fields.GroupSnapshotStatus.AVAILABLE}, updates

    def delete_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[dict[str, Any], Updates]:
        """Destroys the snapshots of a group snapshot together."""
        _check_consistent(group_snapshot)
        with errors.told():
            try:
                self._client.delete_group_snapshot(uuid.UUID(group_snapshot["id"]))
            except Problem as problem:
                if problem.code != "not-found":
                    raise
        status = fields.SnapshotStatus.DELETED
        updates = [{"id": snapshot["id"], "status": status} for snapshot in snapshots]
        return {"status": fields.GroupSnapshotStatus.DELETED}, updates

    def _join_group(self, volume: Any, volume_id: uuid.UUID) -> None:
        """A volume that is made in a group is its member from the beginning."""
        if not volume["group_id"] or not volume_utils.is_group_a_cg_snapshot_type(volume["group"]):
            return
        group = uuid.UUID(volume["group_id"])
        try:
            self._client.update_group(group, {"add": [volume_id]})
        except Problem as problem:
            there = self._client.volume(volume_id).get("group")
            if problem.code != "duplicate" or there != group.bytes:
                raise


def _name(named: Any) -> str:
    """A group is called by its id: what people call it need not be a name to the appliance."""
    return f"cinder-{named['id']}"
