"""The tables of options in README.md and SUPPORT.md: ``python -m tests.reference`` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinder import objects

# What Cinder has for zones wants them, as in each of its programs.
objects.register_all()

from ashlar_cinder.fc import AshlarFCDriver  # noqa: E402
from ashlar_cinder.iscsi import AshlarISCSIDriver  # noqa: E402
from ashlar_cinder.nvme import AshlarNVMeDriver  # noqa: E402
from tests import generic  # noqa: E402

README = Path(__file__).parents[1] / "README.md"
SUPPORT = README.with_name("SUPPORT.md")
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"

#: What Cinder's options are to us, where its own words are too general.
OURS = {
    "driver_client_cert": "Our certificate, PEM. Needed.",
    "driver_client_cert_key": "Its key, PEM, without a passphrase. Needed.",
    "driver_ssl_cert_path": "The authority of the appliance's certificate, PEM. Needed.",
    "reserved_percentage": "At least so much of a pool is reserved, in percent.",
    "max_over_subscription_ratio": "How much thin volumes may be promised together; also `auto`.",
    "volume_copy_bps_limit": "Bytes a second at the appliance's disks of images in and out, moves "
    "and clearing, from 65536 on; 0: no limit. It is also that of all backends.",
    "volume_clear": "`zero` or `none`, when it is set: Cinder's default is for LVM. See below.",
    "volume_clear_size": "So many MiB are cleared, from the beginning of a volume; 0: all of it.",
    "use_chap_auth": "Whether iSCSI hosts prove who they are. See below.",
    "chap_username": "The name that they do it under; each its IQN when empty.",
    "chap_password": "The secret of all hosts; each has its own when empty. 12 to 16 characters.",
    "target_protocol": "`iscsi`, or `iser` where the appliance serves that; for the NVMe driver "
    "`nvmet_tcp`, or likewise `nvmet_rdma`; for that of Fibre Channel none. Others are refused. "
    "Cinder's default is for LVM.",
    "nvmeof_conn_info_version": "Which of two forms os-brick is told; 2 for several portals.",
}

#: Options whose defaults are not taken.
NO_DEFAULT = {"volume_clear", "target_protocol"}


def options() -> list[tuple[str, Any]]:
    """Each option and the drivers that have it."""
    drivers = {"iSCSI": AshlarISCSIDriver, "NVMe": AshlarNVMeDriver, "FC": AshlarFCDriver}
    has = {name: driver.get_driver_options() for name, driver in drivers.items()}
    found: dict[str, tuple[str, Any]] = {}
    for option in [one for options_of in has.values() for one in options_of]:
        whose = [name for name in drivers if option in has[name]]
        found[option.name] = ("all" if len(whose) == len(drivers) else ", ".join(whose), option)
    return list(found.values())


def reference() -> str:
    """The table."""
    lines = ["| option | default | driver | |", "|---|---|---|---|"]
    for whose, option in options():
        default = "" if option.default in (None, "", []) else f"`{option.default}`"
        if option.name in NO_DEFAULT:
            default = ""
        help_text = " ".join(OURS.get(option.name, option.help).split())
        lines.append(f"| `{option.name}` | {default} | {whose} | {help_text} |")
    return "\n".join(lines) + "\n"


def parts(page: Path = README) -> tuple[str, str, str]:
    """A page before its table, the table, and the page behind it."""
    before, rest = page.read_text().split(BEGIN)
    table, after = rest.split(END)
    return before, table, after


if __name__ == "__main__":
    for page, made in ((README, reference()), (SUPPORT, generic.table())):
        head, _, tail = parts(page)
        page.write_text(head + BEGIN + made + END + tail)
