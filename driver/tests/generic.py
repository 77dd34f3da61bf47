"""What becomes of each of Cinder's generic options: the table of SUPPORT.md, and of its test."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from ashlar_cinder import options


class Fate(enum.Enum):
    """What may become of an option."""

    TAKEN = "taken"
    CHECKED = "refused unless it is what the driver does"
    IGNORED = "ignored, with a line at start"
    CINDERS = "Cinder's own"


@dataclass(frozen=True)
class Row:
    """What becomes of one."""

    fate: Fate
    #: Files with tests, or with the test in them.
    shown: tuple[str, ...] = ("test_options.py",)
    note: str = ""


def _rows() -> Iterator[tuple[str, Row]]:
    for name in (
        "volume_backend_name driver_client_cert driver_client_cert_key driver_ssl_cert_path "
        "use_chap_auth chap_username chap_password nvmeof_conn_info_version volume_clear "
        "volume_clear_size volume_copy_bps_limit reserved_percentage max_over_subscription_ratio "
        "filter_function goodness_function"
    ).split():
        yield name, Row(Fate.TAKEN)
    yield "target_protocol", Row(Fate.TAKEN)
    yield "storage_protocol", Row(Fate.CHECKED)
    yield "iscsi_protocol", Row(Fate.CHECKED, note="older name of `target_protocol`")
    for name in options.NOT_OURS:
        yield name, Row(Fate.IGNORED, ("test_options.py: test_what_is_ignored_is_said",))
    for name in (
        "report_discard_supported backend_availability_zone image_volume_cache_max_size_gb "
        "backup_use_temp_snapshot use_multipath_for_image_xfer enforce_multipath_for_image_xfer "
        "num_volume_device_scan_tries"
    ).split():
        yield name, Row(Fate.CINDERS)
    kept = ("test_options.py", "test_images.py: test_cinder_s_cache_of_images_is_of_clones")
    for name in ("image_volume_cache_enabled", "image_volume_cache_max_count"):
        yield name, Row(Fate.CINDERS, kept)
    cloned = "test_story.py: test_an_image_that_is_a_volume_is_cloned"
    yield "image_upload_use_cinder_backend", Row(Fate.CINDERS, (cloned,))
    for name in (
        "image_upload_use_internal_tenant disk_geometry trace_flags enable_unsupported_driver "
        "volume_dd_blocksize volume_copy_blkio_cgroup_name"
    ).split():
        yield name, Row(Fate.CINDERS, ())


#: By name.
FATES: dict[str, Row] = dict(_rows())


def table() -> str:
    """As it stands in SUPPORT.md."""
    told: dict[tuple[Fate, tuple[str, ...], str], list[str]] = {}
    for name, row in FATES.items():
        told.setdefault((row.fate, row.shown, row.note), []).append(f"`{name}`")
    lines = ["| option | what becomes of it | shown by |", "|---|---|---|"]
    for (fate, shown, note), names in told.items():
        what = f"{fate.value}; {note}" if note else fate.value
        tests = [one if ": " in one else f"{one}: test_an_option_has_its_effect" for one in shown]
        by = " ".join(f"`{one}`" for one in tests) or "not tested"
        lines.append(f"| {' '.join(names)} | {what} | {by} |")
    return "\n".join(lines) + "\n"
