"""What can be set in a backend's section of cinder.conf."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cinder import exception
from cinder.volume.configuration import SHARED_CONF_GROUP
from oslo_config import cfg
from oslo_log import log as logging

from ashlar_cinder.client import Clear, Endpoint, Identity, Patience

LOG = logging.getLogger(__name__)

OPTIONS = [
    cfg.StrOpt(
        "ashlar_endpoint",
        help="Where the appliance is managed: HOST, HOST:PORT or [IPV6]:PORT. The port is 8443 "
        "unless given. Its certificate must be for HOST.",
    ),
    cfg.ListOpt(
        "ashlar_pools",
        default=[],
        help="Names of the appliance's pools that this backend uses; all of them when empty. Each "
        "is a pool of Cinder's.",
    ),
    cfg.IntOpt(
        "ashlar_patience",
        default=60,
        min=0,
        max=600,
        help="For how many seconds a request is repeated, under the same request id, while the "
        "appliance cannot be reached or says that it may succeed later.",
    ),
    cfg.IntOpt(
        "ashlar_connections",
        default=32,
        min=1,
        max=256,
        help="Most connections to the management port that are open at once, streams aside.",
    ),
    cfg.StrOpt(
        "ashlar_volume_clear",
        choices=[
            ("none", "Its room is given back to the pool, and no more"),
            ("discard", "The disks are told that what nobody else has is not needed"),
            ("zero", "What nobody else ever had is overwritten"),
        ],
        help="What is done with a volume's data before it is destroyed: none, discard or zero; "
        "what volume_clear says when this is not set.",
    ),
]

NVME_OPTIONS = [
    cfg.StrOpt(
        "ashlar_nvme_authentication",
        default="required",
        choices=[
            ("required", "Hosts are made known to the appliance beforehand, with their keys"),
            (
                "none",
                "Hosts that are not known are let in by their NQN; for isolated networks only",
            ),
        ],
        help="What NVMe hosts have to prove. os-brick cannot be given DH-HMAC-CHAP keys, so with "
        "'required' each host is made known and given its key out of band.",
    ),
]

#: Cinder's own options that are used as they are.
GENERIC = (
    "driver_client_cert",
    "driver_client_cert_key",
    "driver_ssl_cert_path",
    "reserved_percentage",
    "max_over_subscription_ratio",
    "volume_copy_bps_limit",
    "volume_clear",
    "volume_clear_size",
    "target_protocol",
)

#: Fewest bytes a second that the appliance keeps to.
LEAST_BANDWIDTH = 64 << 10
MIB = 1 << 20

_HERE = "the appliance has its own targets"
_TOLD = "the appliance says where its targets are"
_NAMED = "the appliance names its targets itself"

#: Options that Cinder had under these names, and would not look at. They are known here only so
#: that whoever still sets them is told.
OLDER_OPTIONS = [
    cfg.StrOpt(name, help="Not used.")
    for name in (
        "iscsi_helper",
        "iscsi_iotype",
        "iscsi_ip_address",
        "iscsi_port",
        "iscsi_protocol",
        "iscsi_target_prefix",
    )
]

#: Cinder's own options that are the appliance's to decide, or of no meaning to it.
NOT_OURS = {
    "target_helper": _HERE,
    "target_prefix": _NAMED,
    "target_ip_address": _TOLD,
    "target_secondary_ip_addresses": _TOLD,
    "target_port": _TOLD,
    "nvmet_port_id": "the appliance has its own ports",
    "nvmet_ns_id": "the appliance numbers its namespaces itself",
    "iscsi_write_cache": "the appliance acknowledges what is durable, and flushes when told",
    "iscsi_target_flags": _HERE,
    "iscsi_helper": _HERE,
    "iscsi_iotype": "the appliance serves block devices, never files",
    "iscsi_ip_address": _TOLD,
    "iscsi_port": _TOLD,
    "iscsi_target_prefix": _NAMED,
    "iser_helper": _HERE,
    "iser_ip_address": _TOLD,
    "iser_port": _TOLD,
    "iser_target_prefix": _NAMED,
    "num_iser_scan_tries": "nothing reads it",
    "scst_target_driver": _HERE,
    "scst_target_iqn_name": _NAMED,
    "chiscsi_conf": _HERE,
    "volumes_dir": _HERE,
    "num_shell_tries": "no commands are run to make volumes",
    "driver_data_namespace": "what is kept of a host is that of its appliance, for all backends",
    "unique_fqdn_network": "hosts are known by their IQN or NQN",
    "volume_clear_ionice": "hosts go before what the appliance does by itself",
    "driver_use_ssl": "TLS is always used",
    "driver_ssl_cert_verify": "the appliance's certificate is always verified",
    "replication_device": "replication is not there yet",
}

_CHAP_NAME = re.compile(r"(?!NULL)[A-Za-z0-9.:_@-]{1,223}")
_CHAP_SECRET = re.compile(r"(?!NULL)[!-~]{12,16}")


@dataclass(frozen=True)
class Chap:
    """What iSCSI hosts prove."""

    name: str | None
    secret: str | None

    def __repr__(self) -> str:
        return "Chap(...)"


def endpoint(configuration: Any) -> Endpoint:
    """Where the appliance is."""
    text = _required(configuration, "ashlar_endpoint")
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise _invalid("ashlar_endpoint", text) from error


def identity(configuration: Any) -> Identity:
    """Who we are, and whom we trust."""
    return Identity(
        certificate=_required(configuration, "driver_client_cert"),
        key=_required(configuration, "driver_client_cert_key"),
        authority=_required(configuration, "driver_ssl_cert_path"),
    )


def patience(configuration: Any) -> Patience:
    """For how long requests are repeated."""
    return Patience(float(configuration.ashlar_patience))


def bandwidth(configuration: Any) -> int | None:
    """Bytes a second that copies and clearing keep to; nothing when there is no limit."""
    limit = configuration.safe_get("volume_copy_bps_limit") or cfg.CONF.volume_copy_bps_limit
    return max(int(limit), LEAST_BANDWIDTH) if limit else None


def clear(configuration: Any) -> Clear | None:
    """What is done with what is destroyed; nothing unless an option that says so is set.

    ``volume_clear`` would be ``zero`` by itself, which Cinder means for thick volumes of LVM alone.
    """
    how = configuration.ashlar_volume_clear
    if how is None and set_by_operator(configuration, "volume_clear"):
        how = configuration.volume_clear
    if how is None:
        return None
    return Clear(how, configuration.volume_clear_size * MIB, bandwidth(configuration))


def chap(configuration: Any) -> Chap | None:
    """What iSCSI hosts prove; nothing unless ``use_chap_auth`` is set.

    Without ``chap_password`` each host has a secret of its own.
    """
    if not configuration.use_chap_auth:
        return None
    name, secret = configuration.chap_username or None, configuration.chap_password or None
    if name and not _CHAP_NAME.fullmatch(name):
        raise _invalid("chap_username", name)
    if secret and not _CHAP_SECRET.fullmatch(secret):
        # Not what it is.
        raise _invalid("chap_password", "(12 to 16 printable characters are needed)")
    return Chap(name, secret)


def target_protocol(configuration: Any, spoken: Sequence[str]) -> str:
    """The protocol that is asked for: of those that a driver speaks the first, unless one is set.

    Cinder's default is for LVM. Its older name is refused, too, as it would be without effect.
    """
    for name in ("iscsi_protocol", "target_protocol"):
        if not set_by_operator(configuration, name):
            continue
        asked = str(configuration.safe_get(name))
        if asked not in spoken:
            _refuse(configuration, name, asked, f"this driver speaks {' and '.join(spoken)}")
        elif name == "target_protocol":
            return asked
        elif asked != spoken[0]:
            _refuse(configuration, name, asked, "it is chosen by target_protocol")
    return spoken[0]


def check_storage_protocol(configuration: Any, spoken: str) -> None:
    """Refuses another protocol in the option that some drivers choose theirs by."""
    name = "storage_protocol"
    asked = str(configuration.safe_get(name))
    if set_by_operator(configuration, name) and asked.casefold() != spoken.casefold():
        _refuse(configuration, name, asked, f"this driver speaks {spoken}")


def _refuse(configuration: Any, name: str, asked: str, why: str) -> None:
    """What is said of this backend; what is said of all of them may be meant for others."""
    if set_by_operator(configuration, name, shared=False):
        raise _invalid(name, asked, why)
    LOG.warning(
        "%(name)s = %(asked)s of all backends is ignored: %(why)s",
        {"name": name, "asked": asked, "why": why},
    )


def say_what_is_ignored(configuration: Any) -> None:
    """A line for each option that is set and that we have no use for."""
    for name, why in NOT_OURS.items():
        if set_by_operator(configuration, name):
            LOG.warning("%(name)s is ignored: %(why)s", {"name": name, "why": why})


def say_what_waits(how: Clear | None) -> None:
    """A line if a service that starts would wait for all that was being cleared."""
    cfg.CONF.import_opt("volume_service_inithost_offload", "cinder.volume.manager")
    if how is None or how.how == "none" or cfg.CONF.volume_service_inithost_offload:
        return
    LOG.warning(
        "volume_service_inithost_offload is not set: a service that is started while volumes are "
        "cleared waits for each of them before it does anything else"
    )


def set_by_operator(configuration: Any, name: str, *, shared: bool = True) -> bool:
    """Whether an option is set for the backend, or all backends, rather than having its default."""
    defaults = (cfg.Locations.opt_default, cfg.Locations.set_default)
    for group in (configuration.config_group, SHARED_CONF_GROUP)[: 2 if shared else 1]:
        try:
            found = cfg.CONF.get_location(name, group)
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
            continue
        if found is not None and found.location not in defaults:
            return True
    return False


def _required(configuration: Any, name: str) -> str:
    value = configuration.safe_get(name)
    if not value:
        raise _invalid(name, "")
    return str(value)


def _invalid(name: str, value: str, why: str = "") -> Exception:
    invalid = exception.InvalidConfigurationValue
    if why:
        return invalid(f"{name} = {value} cannot be: {why}")
    return invalid(option=name, value=value)
