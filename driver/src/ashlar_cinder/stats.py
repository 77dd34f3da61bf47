"""What the scheduler is told of a backend."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from cinder.volume import volume_utils

from ashlar_cinder.client import objects

VENDOR = "Ashlar"
GIB = 1 << 30


def location(system: uuid.UUID, pool: uuid.UUID) -> str:
    """Where a pool is, so that one appliance knows its own."""
    return f"ashlar:{system}:{pool}"


def parse_location(text: Any) -> tuple[uuid.UUID, uuid.UUID] | None:
    """The appliance and its pool, if it is one of ours."""
    words = str(text or "").split(":")
    try:
        kind, system, pool = words
        return (uuid.UUID(system), uuid.UUID(pool)) if kind == "ashlar" else None
    except ValueError:
        return None


def of_backend(
    configuration: Any,
    system: objects.System,
    pools: Sequence[objects.Pool],
    *,
    storage_protocol: str,
    functions: tuple[str | None, str | None],
    version: str,
) -> dict[str, Any]:
    """The whole of it."""
    capabilities = system["capabilities"]
    name = configuration.safe_get("volume_backend_name") or f"ashlar-{system['name']}"
    return {
        "volume_backend_name": name,
        "vendor_name": VENDOR,
        "driver_version": version,
        "storage_protocol": storage_protocol,
        "online_extend_support": capabilities["online_extend"],
        # What reads as zeros need not be written to a new volume.
        "sparse_copy_volume": True,
        # A clone is in its source's pool.
        "clone_across_pools": False,
        # Each volume has a target, or a subsystem, of its own.
        "shared_targets": False,
        "replication_enabled": False,
        "pools": [_of_pool(configuration, system, pool, functions) for pool in pools],
    }


def _of_pool(
    configuration: Any,
    system: objects.System,
    pool: objects.Pool,
    functions: tuple[str | None, str | None],
) -> dict[str, Any]:
    capabilities = system["capabilities"]
    capacity, used = pool.get("capacity", 0), pool.get("used", 0)
    # What is kept for thick volumes is nobody else's, whether they use it yet or not.
    free = capacity - max(used, min(pool["thick"], capacity))
    return {
        "pool_name": pool["name"],
        "location_info": location(uuid.UUID(bytes=system["id"]), uuid.UUID(bytes=pool["id"])),
        "backend_state": "up" if "capacity" in pool else "down",
        "total_capacity_gb": _gib(capacity),
        "free_capacity_gb": _gib(max(free, 0)),
        "provisioned_capacity_gb": _gib(pool["provisioned"]),
        "reserved_percentage": max(
            int(configuration.safe_get("reserved_percentage") or 0), pool["reserved"]
        ),
        "max_over_subscription_ratio": _ratio(configuration, pool),
        "thin_provisioning_support": True,
        "thick_provisioning_support": True,
        "multiattach": capabilities["multiattach"],
        "QoS_support": capabilities["qos"],
        "consistent_group_snapshot_enabled": True,
        "compression": False,
        "filter_function": functions[0],
        "goodness_function": functions[1],
        "total_volumes": pool["volumes"],
    }


def _ratio(configuration: Any, pool: objects.Pool) -> str | float:
    """As Cinder has it, but for what the pool would refuse."""
    asked = volume_utils.get_max_over_subscription_ratio(
        configuration.safe_get("max_over_subscription_ratio"), supports_auto=True
    )
    if pool["over_subscription"] == 0:
        return str(asked) if asked == "auto" else float(asked)
    most = pool["over_subscription"] / 100
    return most if asked == "auto" else min(float(asked), most)


def _gib(size: int) -> float:
    return round(size / GIB, 2)
