"""Each of Cinder's generic options: it has its meaning, is refused, or is said to be ignored."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import volume_utils

from ashlar_cinder import options
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Clear
from ashlar_cinder.fc import AshlarFCDriver
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests.conftest import CINDER_S, World
from tests.generic import FATES, Fate


@dataclass
class Stage:
    """What an option is looked at with."""

    world: World
    connector: Callable[[str], dict[str, Any]]
    monkeypatch: pytest.MonkeyPatch

    def info(self, one: Any) -> dict[str, Any]:
        """What a host is told of a new volume by a driver, or by Cinder's service upon one."""
        volume = self.world.volume()
        driver = one if isinstance(one, AshlarDriver) else one.driver
        driver.create_volume(volume)
        told = one.initialize_connection(
            *([] if one is driver else [self.world.context]), volume, self.connector("alpha")
        )
        driver.terminate_connection(volume, None)
        driver.delete_volume(volume)
        return dict(told["data"])

    def pool(self, **settings: Any) -> dict[str, Any]:
        """What the scheduler is told of a pool."""
        driver = self.world.driver(ashlar_pools=["tank"], **settings)
        [pool] = driver.get_volume_stats(refresh=True)["pools"]
        return dict(pool)

    def refuses(
        self, match: str, kind: type[AshlarDriver] = AshlarISCSIDriver, **set_: Any
    ) -> None:
        with pytest.raises(exception.InvalidConfigurationValue, match=match):
            self.world.driver(kind, **set_)


Effect = Callable[[Stage], None]
EFFECTS: dict[str, Effect] = {}


def of(*names: str) -> Callable[[Effect], Effect]:
    """The effect of options."""

    def note(effect: Effect) -> Effect:
        EFFECTS.update(dict.fromkeys(names, effect))
        return effect

    return note


@of("target_protocol")
def _target_protocol(stage: Stage) -> None:
    stage.world.driver(target_protocol="iscsi")
    stage.world.driver(AshlarNVMeDriver, target_protocol="nvmet_tcp")
    for protocol in ("nvmet_tcp", "nvmet_rdma"):
        stage.refuses("this driver speaks iscsi and iser", target_protocol=protocol)
    stage.refuses("this driver speaks fc", AshlarFCDriver, target_protocol="iscsi")
    for protocol in ("iscsi", "iser"):
        spoken = "this driver speaks nvmet_tcp and nvmet_rdma"
        stage.refuses(spoken, AshlarNVMeDriver, target_protocol=protocol)


@of("iscsi_protocol")
def _iscsi_protocol(stage: Stage) -> None:
    stage.world.driver(iscsi_protocol="iscsi")
    stage.refuses(
        "iscsi_protocol = iser cannot be: it is chosen by target_protocol", iscsi_protocol="iser"
    )
    stage.refuses("iscsi_protocol = iscsi cannot be", AshlarNVMeDriver, iscsi_protocol="iscsi")


@of("storage_protocol")
def _storage_protocol(stage: Stage) -> None:
    stage.world.driver(storage_protocol="iSCSI")
    stage.world.driver(storage_protocol="iscsi")
    stage.refuses(
        "storage_protocol = FC cannot be: this driver speaks iSCSI", storage_protocol="FC"
    )
    stage.refuses("speaks NVMe-TCP", AshlarNVMeDriver, storage_protocol="iSCSI")
    stage.world.driver(AshlarFCDriver, storage_protocol="FC")
    stage.refuses("speaks FC", AshlarFCDriver, storage_protocol="iSCSI")


@of("use_chap_auth", "chap_username", "chap_password")
def _chap(stage: Stage) -> None:
    def proof(**settings: Any) -> tuple[Any, Any]:
        data = stage.info(stage.world.driver(**settings))
        return data.get("auth_username"), data.get("auth_password")

    name, secret = "cinder", "ABCdef123456"
    assert proof() == (None, None)
    assert proof(chap_username=name, chap_password=secret) == (None, None)
    own = proof(use_chap_auth=True)
    assert own[0] == stage.connector("alpha")["initiator"]
    assert len(own[1]) == 16
    both = {"chap_username": name, "chap_password": secret}
    assert proof(use_chap_auth=True, **both) == (name, secret)
    stage.refuses("chap_password", use_chap_auth=True, chap_password="short")
    stage.refuses("chap_username", use_chap_auth=True, chap_username="two words")


@of("volume_clear", "volume_clear_size")
def _clear(stage: Stage) -> None:
    def done(**settings: Any) -> Any:
        return stage.world.driver(**settings)._clear

    # Cinder's default is for LVM.
    assert done() is None
    assert done(volume_clear_size=5) is None
    assert done(volume_clear="none") == Clear("none")
    assert done(volume_clear="zero", volume_clear_size=5) == Clear("zero", 5 << 20)


@of("volume_copy_bps_limit")
def _bandwidth(stage: Stage) -> None:
    driver = stage.world.driver(volume_copy_bps_limit=1 << 20, volume_clear="zero")
    assert options.bandwidth(driver.configuration) == 1 << 20
    assert driver._clear == Clear("zero", 0, 1 << 20)


@of("reserved_percentage")
def _reserved(stage: Stage) -> None:
    assert stage.pool()["reserved_percentage"] == 0
    assert stage.pool(reserved_percentage=7)["reserved_percentage"] == 7


@of("max_over_subscription_ratio")
def _ratio(stage: Stage) -> None:
    for said, told in (("3.5", 3.5), ("auto", "auto")):
        found = stage.pool(max_over_subscription_ratio=said)
        assert found["max_over_subscription_ratio"] == told


@of("filter_function", "goodness_function")
def _functions(stage: Stage) -> None:
    found = stage.pool(filter_function="volume.size < 10", goodness_function="50")
    assert (found["filter_function"], found["goodness_function"]) == ("volume.size < 10", "50")
    found = stage.pool()
    assert (found["filter_function"], found["goodness_function"]) == (None, None)


@of("volume_backend_name")
def _name(stage: Stage) -> None:
    driver = stage.world.driver(volume_backend_name="gold")
    assert driver.get_volume_stats(refresh=True)["volume_backend_name"] == "gold"


@of("driver_client_cert", "driver_client_cert_key", "driver_ssl_cert_path")
def _certificates(stage: Stage) -> None:
    for name in ("driver_client_cert", "driver_client_cert_key", "driver_ssl_cert_path"):
        stage.refuses(name, AshlarISCSIDriver, **{name: None})
        # A key is told under the name of its certificate.
        also = {"driver_client_cert": "/nowhere"} if name.endswith("_key") else {}
        with pytest.raises(exception.VolumeBackendAPIException, match="/nowhere"):
            stage.world.driver(AshlarISCSIDriver, **{name: "/nowhere"}, **also)


@of("nvmeof_conn_info_version")
def _version(stage: Stage) -> None:
    for version, key in ((1, "nqn"), (2, "target_nqn")):
        driver = stage.world.driver(
            AshlarNVMeDriver, nvmeof_conn_info_version=version, ashlar_nvme_authentication="none"
        )
        assert key in stage.info(driver)


@of("report_discard_supported")
def _discard(stage: Stage) -> None:
    assert "discard" not in stage.info(stage.world.manager())
    assert stage.info(stage.world.manager(report_discard_supported=True))["discard"] is True


@of("backend_availability_zone")
def _zone(stage: Stage) -> None:
    assert stage.world.manager().availability_zone == "nova"
    assert stage.world.manager(backend_availability_zone="az7").availability_zone == "az7"


@of("image_volume_cache_enabled", "image_volume_cache_max_size_gb", "image_volume_cache_max_count")
def _cache(stage: Stage) -> None:
    assert stage.world.manager().image_volume_cache is None
    cache = stage.world.manager(
        image_volume_cache_enabled=True,
        image_volume_cache_max_size_gb=7,
        image_volume_cache_max_count=3,
    ).image_volume_cache
    assert (cache.max_cache_size_gb, cache.max_cache_size_count) == (7, 3)


@of("backup_use_temp_snapshot")
def _backup(stage: Stage) -> None:
    world = stage.world
    for by_snapshot in (False, True):
        driver = world.driver(backup_use_temp_snapshot=by_snapshot)
        volume = world.volume(previous_status="in-use", status="backing-up")
        driver.create_volume(volume)
        backup = objects.Backup(
            world.context, volume_id=volume.id, user_id="u", project_id="p", status="creating"
        )
        backup.create()
        device, is_snapshot = driver.get_backup_device(world.context, backup)
        assert is_snapshot == by_snapshot
        there = driver._client
        if by_snapshot:
            assert there.snapshot(uuid.UUID(device.id))["volume"] == uuid.UUID(volume.id).bytes
            driver.delete_snapshot(device)
        else:
            parent = there.volume(uuid.UUID(device.id))["parent"]
            assert parent == {"volume": uuid.UUID(volume.id).bytes}
            driver.delete_volume(device)
        driver.delete_volume(volume)


@of(
    "use_multipath_for_image_xfer",
    "enforce_multipath_for_image_xfer",
    "num_volume_device_scan_tries",
)
def _own_attachments(stage: Stage) -> None:
    """Where Cinder attaches to its own host."""
    world, asked = stage.world, {}

    def properties(multipath: bool, enforce: bool) -> dict[str, Any]:
        asked["properties"] = (multipath, enforce)
        return stage.connector("cinder")

    class Connector:
        def connect_volume(self, data: Any) -> dict[str, str]:
            return {"path": "/dev/null"}

        def check_valid_device(self, path: str, run_as_root: bool) -> bool:
            return True

        def disconnect_volume(self, *_args: Any, **_kwargs: Any) -> None:
            pass

    def connector(_protocol: str, **how: Any) -> Connector:
        asked["connector"] = (how["use_multipath"], how["device_scan_attempts"])
        return Connector()

    stage.monkeypatch.setattr(volume_utils, "brick_get_connector_properties", properties)
    stage.monkeypatch.setattr(volume_utils, "brick_get_connector", connector)
    driver = world.driver(
        use_multipath_for_image_xfer=True,
        enforce_multipath_for_image_xfer=True,
        num_volume_device_scan_tries=9,
    )
    volume = world.volume()
    driver.create_volume(volume)
    multipath, enforce = True, True
    info, volume = driver._attach_volume(world.context, volume, properties(multipath, enforce))
    assert asked["connector"] == (True, 9)
    driver._detach_volume(world.context, info, volume, stage.connector("cinder"), force=True)
    driver.delete_volume(volume)


@pytest.fixture
def stage(
    world: World,
    connector: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    return Stage(world, connector, monkeypatch)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_option_has_its_effect(stage: Stage, name: str) -> None:
    EFFECTS[name](stage)


IGNORED: dict[str, Any] = {
    "target_secondary_ip_addresses": ["192.0.2.2"],
    "target_helper": "lioadm",
    "target_port": 3261,
    "nvmet_port_id": 2,
    "nvmet_ns_id": 11,
    "iscsi_write_cache": "off",
    "iser_port": 3261,
    "num_iser_scan_tries": 5,
    "num_shell_tries": 5,
    "driver_use_ssl": False,
    "driver_ssl_cert_verify": False,
    "unique_fqdn_network": False,
    "replication_device": [{"backend_id": "other"}],
}


@pytest.mark.parametrize("kind", [AshlarISCSIDriver, AshlarNVMeDriver, AshlarFCDriver])
def test_what_is_ignored_is_said(
    world: World, caplog: pytest.LogCaptureFixture, kind: type[AshlarDriver]
) -> None:
    def said(**settings: Any) -> list[str]:
        caplog.clear()
        # It reaches the appliance all the same, which speaks TLS alone.
        world.driver(kind, use_chap_auth=True, **settings)
        words = [record.getMessage().split() for record in caplog.records]
        return sorted(line[0] for line in words if line[1:3] == ["is", "ignored:"])

    assert said() == []
    one = "iscsi_write_cache"
    assert said(**{one: IGNORED[one]}) == [one]
    everything = {name: IGNORED.get(name, "any") for name in options.NOT_OURS}
    assert said(**everything) == sorted(options.NOT_OURS)


def test_what_becomes_of_each_is_told() -> None:
    """In the table of SUPPORT.md, which is made of this one."""
    of_cinder = {option.name for known in CINDER_S for option in known}
    of_cinder |= {option.name for option in options.OLDER_OPTIONS}
    assert set(FATES) == of_cinder
    ignored = {name for name, row in FATES.items() if row.fate is Fate.IGNORED}
    assert ignored == set(options.NOT_OURS)
    shown_here = {name for name, row in FATES.items() if "test_options.py" in row.shown}
    assert shown_here == set(EFFECTS)
