"""What a volume type asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cinder import exception
from cinder.volume import volume_types

from ashlar_cinder.client.objects import Qos

#: Extra specs that say whether room is kept for a volume: Cinder's own, and ours.
PROVISIONING_SPECS = ("provisioning:type", "ashlar:provisioning")

#: Keys of QoS specs and what they are to the appliance. Each also with ``_per_gb``.
QOS_KEYS = {
    "read_iops_sec": "read_iops",
    "write_iops_sec": "write_iops",
    "total_iops_sec": "total_iops",
    "read_bytes_sec": "read_bytes",
    "write_bytes_sec": "write_bytes",
    "total_bytes_sec": "total_bytes",
}
PER_GB = "_per_gb"

#: Who applies QoS specs, when the appliance does.
_OURS = ("back-end", "both")


@dataclass(frozen=True)
class Specs:
    """What a volume is to be like."""

    provisioning: str
    qos: Qos

    def to_map(self) -> dict[str, Any]:
        """As part of what a new volume is specified by."""
        wanted: dict[str, Any] = {"provisioning": self.provisioning}
        return wanted | {"qos": self.qos} if self.qos else wanted

    def to_update(self) -> dict[str, Any]:
        """As what a volume is changed to: without limits it has none."""
        return {"provisioning": self.provisioning, "qos": self.qos}


def of_type(volume_type: Any) -> Specs:
    """What a volume type asks for; without one, a thin volume without limits."""
    if not volume_type:
        return Specs("thin", {})
    qos: Qos = {}
    if volume_type["qos_specs_id"]:
        found = volume_types.get_volume_type_qos_specs(volume_type["id"])
        specs = (found or {}).get("qos_specs") or {}
        if specs.get("consumer") in _OURS:
            qos = limits(specs.get("specs") or {})
    return Specs(provisioning(volume_type["extra_specs"] or {}), qos)


def provisioning(extra_specs: Mapping[str, str]) -> str:
    """``thin`` or ``thick``; the two extra specs must not contradict each other."""
    asked = {extra_specs[key].strip().lower() for key in PROVISIONING_SPECS if key in extra_specs}
    if not asked:
        return "thin"
    if len(asked) > 1 or not asked <= {"thin", "thick"}:
        keys = " and ".join(PROVISIONING_SPECS)
        raise exception.InvalidVolumeType(
            reason=f"{keys}: there is thin and thick, not {', '.join(sorted(asked))}"
        )
    return asked.pop()


def limits(specs: Mapping[str, str]) -> Qos:
    """The appliance's limits for QoS specs; refuses what it cannot keep to."""
    found: dict[str, int | bool] = {}
    kinds = set()
    for key, text in specs.items():
        per_gb = key.endswith(PER_GB)
        own = QOS_KEYS.get(key.removesuffix(PER_GB))
        if own is None:
            known = ", ".join(QOS_KEYS)
            raise exception.InvalidQoSSpecs(
                reason=f"{key}: there are {known}, and each with {PER_GB}"
            )
        if not text.strip().isdecimal():
            raise exception.InvalidQoSSpecs(reason=f"{key}: {text!r} is no whole number")
        found[own] = int(text)
        kinds.add(per_gb)
    if len(kinds) > 1:
        raise exception.InvalidQoSSpecs(reason=f"either all keys end in {PER_GB} or none does")
    if True in kinds:
        found["per_gib"] = True
    return cast(Qos, found)
