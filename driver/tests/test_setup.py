"""Options, what types say, and what a driver refuses to start with."""

from __future__ import annotations

from typing import Any

import pytest
from cinder import exception
from oslo_config import cfg

from ashlar_cinder import options, specs, stats
from ashlar_cinder.base import AshlarDriver, Protocol
from ashlar_cinder.client import Clear, Client, Patience
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests.conftest import World


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"ashlar_endpoint": None}, "ashlar_endpoint"),
        ({"ashlar_endpoint": "https://box"}, "ashlar_endpoint"),
        ({"driver_client_cert": None}, "driver_client_cert"),
        ({"driver_client_cert_key": None}, "driver_client_cert_key"),
        ({"driver_ssl_cert_path": None}, "driver_ssl_cert_path"),
        ({"use_chap_auth": True, "chap_password": "short"}, "chap_password"),
        ({"use_chap_auth": True, "chap_username": "two words"}, "chap_username"),
    ],
)
def test_what_cannot_be_is_refused(world: World, settings: dict[str, Any], option: str) -> None:
    driver = world.unready(**settings)
    with pytest.raises(exception.InvalidConfigurationValue, match=option) as caught:
        driver.do_setup(world.context)
    assert "short" not in str(caught.value)


def test_hosts_without_secrets_are_warned_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.driver(use_chap_auth=True)
    assert "by their names alone" not in caplog.text
    world.driver()
    assert "by their names alone" in caplog.text


def test_a_pool_that_is_not_there(world: World) -> None:
    with pytest.raises(exception.InvalidConfigurationValue, match="ashlar_pools"):
        world.driver(ashlar_pools=["tank", "nowhere"])


def test_a_transport_that_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Protocol("carrier-pigeon", "RFC 1149", "a loft")
    monkeypatch.setattr(AshlarISCSIDriver, "PROTOCOLS", {"iscsi": other})
    with pytest.raises(exception.VolumeBackendAPIException, match=r"not carrier-pigeon: .*loft"):
        world.driver()


@pytest.mark.parametrize(
    ("kind", "protocol", "transport"),
    [(AshlarISCSIDriver, "iser", "iser"), (AshlarNVMeDriver, "nvmet_rdma", "nvme-rdma")],
)
def test_an_appliance_without_rdma_is_refused(
    world: World, client: Client, kind: type[AshlarDriver], protocol: str, transport: str
) -> None:
    # That of the tests has no address for it.
    assert transport not in client.system()["capabilities"]["transports"]
    with pytest.raises(
        exception.VolumeBackendAPIException, match=rf"not {transport}: .* \[{transport}\]"
    ):
        world.driver(kind, target_protocol=protocol)


def test_nobody_there(world: World) -> None:
    driver = world.unready(ashlar_endpoint="127.0.0.1:1", ashlar_patience=0)
    driver.do_setup(world.context)
    with pytest.raises(exception.VolumeBackendAPIException, match=r"127\.0\.0\.1:1"):
        driver.check_for_setup_error()


def test_a_driver_that_was_not_set_up_says_so(world: World) -> None:
    with pytest.raises(exception.DriverNotInitialized):
        world.unready().create_volume(world.volume())


def test_an_appliance_that_is_lost_is_down_for_the_scheduler(
    world: World, driver: AshlarDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = world.unready(ashlar_endpoint="127.0.0.1:1", ashlar_patience=0)
    away.do_setup(world.context)
    monkeypatch.setattr("ashlar_cinder.base._SHORTLY", Patience(0))
    sound = driver._connected
    driver._connected = away._connected
    stats_of = driver.get_volume_stats(refresh=True)
    assert {pool["backend_state"] for pool in stats_of["pools"]} == {"down"}
    driver._connected = sound
    stats_of = driver.get_volume_stats(refresh=True)
    assert {pool["backend_state"] for pool in stats_of["pools"]} == {"up"}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        # Cinder's default is for LVM.
        ({}, None),
        ({"volume_clear_size": 5}, None),
        ({"volume_clear": "none"}, Clear("none")),
        ({"volume_clear": "zero"}, Clear("zero")),
        ({"volume_clear": "zero", "volume_clear_size": 5}, Clear("zero", 5 << 20)),
        ({"ashlar_volume_clear": "discard", "volume_clear": "zero"}, Clear("discard")),
        (
            {"ashlar_volume_clear": "zero", "volume_copy_bps_limit": 1 << 20},
            Clear("zero", 0, 1 << 20),
        ),
    ],
    ids=str,
)
def test_what_is_done_with_what_is_destroyed(
    world: World, settings: dict[str, Any], wanted: Clear | None
) -> None:
    assert world.driver(**settings)._clear == wanted


@pytest.mark.parametrize("how", [None, "none", "discard", "zero"])
@pytest.mark.parametrize("offload", [False, True])
def test_a_service_that_would_wait_for_clearing_says_so(
    world: World, caplog: pytest.LogCaptureFixture, how: str | None, offload: bool
) -> None:
    cfg.CONF.set_override("volume_service_inithost_offload", offload)
    world.driver(ashlar_volume_clear=how)
    wanted = how in {"discard", "zero"} and not offload
    assert ("volume_service_inithost_offload is not set" in caplog.text) == wanted


def test_a_limit_of_copies(world: World) -> None:
    def limit(**settings: Any) -> int | None:
        return options.bandwidth(world.driver(**settings).configuration)

    assert limit() is None
    assert limit(volume_copy_bps_limit=1 << 20) == 1 << 20
    # The appliance has no smaller one.
    assert limit(volume_copy_bps_limit=1) == 65536
    # That of all backends.
    cfg.CONF.set_override("volume_copy_bps_limit", 1 << 21)
    assert limit() == 1 << 21


def test_provisioning() -> None:
    assert specs.provisioning({}) == "thin"
    assert specs.provisioning({"provisioning:type": "thick"}) == "thick"
    assert specs.provisioning({"ashlar:provisioning": "Thick "}) == "thick"
    both = {"provisioning:type": "thin", "ashlar:provisioning": "thick"}
    for wrong in (both, {"ashlar:provisioning": "fat"}):
        with pytest.raises(exception.InvalidVolumeType):
            specs.provisioning(wrong)


def test_limits() -> None:
    assert specs.limits({}) == {}
    assert specs.limits({"total_iops_sec": "100", "read_bytes_sec": "2097152"}) == {
        "total_iops": 100,
        "read_bytes": 2097152,
    }
    assert specs.limits({"read_iops_sec_per_gb": "10"}) == {"read_iops": 10, "per_gib": True}
    for wrong in (
        {"total_iops_sec_max": "100"},
        {"total_iops_sec": "many"},
        {"total_iops_sec": "1", "read_bytes_sec_per_gb": "1"},
    ):
        with pytest.raises(exception.InvalidQoSSpecs):
            specs.limits(wrong)


@pytest.mark.parametrize("text", [None, "", "lvm:host:vg", "ashlar:x:y", "ashlar:1"])
def test_locations_of_others(text: Any) -> None:
    assert stats.parse_location(text) is None


def test_chap_is_not_printed() -> None:
    assert "secret-word" not in repr(options.Chap("name", "secret-word"))
