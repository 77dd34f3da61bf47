"""What all parts of a driver share: the appliance, its pools, and what things are called there."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

from cinder import exception
from cinder.volume import volume_utils
from oslo_log import log as logging

from ashlar_cinder import errors, ids, options, specs
from ashlar_cinder.client import Clear, Client, Problem, objects
from ashlar_cinder.client.calls import Item, snapshot_path, volume_path
from ashlar_cinder.stats import GIB

LOG = logging.getLogger(__name__)

#: The label of what is Cinder's on the appliance: the id that Cinder has for it.
LABEL = "cinder"


class Core:
    """The appliance of a backend."""

    configuration: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connected: Client | None = None
        self._known: objects.System | None = None
        # What is done with volumes' data before they are destroyed.
        self._clear: Clear | None = None
        self._pools: dict[str, uuid.UUID] = {}
        self._pools_lock = threading.Lock()

    # ---- The appliance -------------------------------------------------------------------------

    @property
    def _client(self) -> Client:
        if self._connected is None:
            raise exception.DriverNotInitialized(driver=type(self).__name__)
        return self._connected

    @property
    def _system(self) -> objects.System:
        if self._known is None:
            raise exception.DriverNotInitialized(driver=type(self).__name__)
        return self._known

    def _connect_to_appliance(self) -> None:
        try:
            client = Client(
                options.endpoint(self.configuration),
                options.identity(self.configuration),
                patience=options.patience(self.configuration),
                connections=self.configuration.ashlar_connections,
            )
        except ValueError as error:
            raise exception.VolumeBackendAPIException(data=str(error)) from error
        if self._connected is not None:
            self._connected.close()
        self._connected = client
        self._clear = options.clear(self.configuration)

    # ---- Pools ---------------------------------------------------------------------------------

    def _own_pools(self, pools: Sequence[objects.Pool]) -> list[objects.Pool]:
        """Those that this backend uses; remembers them."""
        wanted = self.configuration.ashlar_pools
        own = [pool for pool in pools if not wanted or pool["name"] in wanted]
        names = [pool["name"] for pool in own]
        for name in sorted({name for name in names if names.count(name) > 1}):
            # Cinder knows pools by name alone.
            raise exception.VolumeBackendAPIException(
                data=f"the appliance has several pools named {name!r}: rename all but one"
            )
        with self._pools_lock:
            self._pools = {pool["name"]: uuid.UUID(bytes=pool["id"]) for pool in own}
        return own

    def _pool_id(self, host: str) -> uuid.UUID:
        """The pool that a ``HOST@BACKEND#POOL`` is on."""
        name = volume_utils.extract_host(host, level="pool")
        found = self._pools.get(name)
        if found is None:
            with errors.told():
                self._own_pools(self._client.pools())
            found = self._pools.get(name)
        if found is None:
            raise exception.VolumeBackendAPIException(
                data=f"the appliance has no pool named {name!r} for {host}"
            )
        return found

    def _pool_name(self, pool: bytes) -> str | None:
        wanted = uuid.UUID(bytes=pool)
        return next((name for name, known in self._pools.items() if known == wanted), None)

    # ---- Names ---------------------------------------------------------------------------------

    @staticmethod
    def _volume_id(volume: Any) -> uuid.UUID:
        """The volume's id on the appliance: another than Cinder's after a migration."""
        return uuid.UUID(volume["name_id"])

    @staticmethod
    def _snapshot_id(snapshot: Any) -> uuid.UUID:
        """The snapshot's id on the appliance: another than Cinder's if it was there before."""
        return uuid.UUID(snapshot["provider_id"] or snapshot["id"])

    def _new_volume(self, volume: Any) -> dict[str, Any]:
        """What a volume of Cinder's is to be on the appliance."""
        return {
            "name": volume["name"],
            "pool": self._pool_id(volume["host"]),
            "size": volume["size"] * GIB,
            "labels": {LABEL: volume["id"]},
        } | specs.of_type(volume["volume_type"]).to_map()

    # ---- Deleting ------------------------------------------------------------------------------

    def _delete_volumes(self, volumes: Sequence[uuid.UUID]) -> list[Problem | None]:
        """Destroys volumes with what uploads may have left of them, cleared before if configured
        so; what each was refused with, if it was.
        """
        paths = [volume_path(volume, self._clear) for volume in volumes]
        stills = [snapshot_path(ids.still_id(volume)) for volume in volumes]
        if self._clear is None or self._clear.how == "none":
            return self._delete(list(zip(paths, stills, strict=True)))
        # What they hold is another's as long as they are there, and would be left.
        refusals = self._refusals(stills)
        jobs: list[objects.Job | Problem] = []
        for path, refused in zip(paths, refusals, strict=True):
            try:
                jobs.append(refused or self._client.begin_delete(path))
            except Problem as problem:
                jobs.append(problem)
        return [self._cleared(*each) for each in zip(volumes, jobs, strict=True)]

    def _cleared(self, volume: uuid.UUID, job: objects.Job | Problem) -> Problem | None:
        """Waits until a volume is destroyed; what that was refused with, if it was."""
        try:
            if isinstance(job, Problem):
                raise job
            result = self._client.wait_for(job).get("result", {})
        except Problem as problem:
            return None if problem.code == "not-found" else problem
        if left := result.get("left"):
            LOG.warning(
                "Volume %(id)s: %(left)d bytes were asked to be cleared and were not: others have "
                "or had them",
                {"id": volume, "left": left},
            )
        return None

    def _delete(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Destroys things, each with what may have been left of it, together; what each was
        refused with, if it was.
        """
        refusals = self._refusals([path for pair in pairs for path in pair])
        return [
            refused or left for refused, left in zip(refusals[::2], refusals[1::2], strict=True)
        ]

    def _refusals(self, paths: Sequence[str]) -> list[Problem | None]:
        """Destroys what paths name; what is gone already is not refused."""
        refusals = self._client.bulk([Item("DELETE", path) for path in paths])
        for at, refused in enumerate(refusals):
            if refused is not None and refused.retryable:
                # On its own it is waited for.
                refusals[at] = self._refusal(paths[at])
        return [
            None if refused is not None and refused.code == "not-found" else refused
            for refused in refusals
        ]

    def _refusal(self, path: str) -> Problem | None:
        try:
            self._client.delete(path)
        except Problem as problem:
            return problem
        return None
