"""What Cinder asks of a driver: there, our own, and called as Cinder calls it."""

from __future__ import annotations

import importlib
import inspect
import unittest
from typing import Any

import pytest
from cinder.interface import util as interface_util
from cinder.tests.compliance import test_volume_drivers
from cinder.volume import driver as cinder_driver

from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.fc import AshlarFCDriver
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver

DRIVERS = [AshlarISCSIDriver, AshlarNVMeDriver, AshlarFCDriver]

#: What must not be what a base class does.
OWN = """
    get_driver_options do_setup check_for_setup_error _init_vendor_properties _update_volume_stats
    get_pool update_provider_info create_volume delete_volume extend_volume create_cloned_volume
    clone_image create_volume_from_snapshot create_snapshot delete_snapshot revert_to_snapshot
    snapshot_revert_use_temp_snapshot ensure_export create_export remove_export validate_connector
    initialize_connection terminate_connection create_export_snapshot remove_export_snapshot
    initialize_connection_snapshot terminate_connection_snapshot copy_image_to_volume
    copy_volume_to_image retype migrate_volume update_migrated_volume
    manage_existing manage_existing_get_size
    unmanage get_manageable_volumes manage_existing_snapshot manage_existing_snapshot_get_size
    unmanage_snapshot get_manageable_snapshots create_group delete_group update_group
    create_group_from_src create_group_snapshot delete_group_snapshot accept_transfer
""".split()

#: What Cinder does itself with what is ours, and does well.
INHERITED = """
    get_version get_volume_stats init_capabilities get_filter_function get_goodness_function
    set_throttle set_initialized initialized supported
    clear_download copy_image_to_encrypted_volume
    get_backup_device backup_use_temp_snapshot before_volume_copy after_volume_copy
    freeze_backend thaw_backend
    create_volume_from_backup local_path secure_file_operations_enabled
""".split()

#: What only Cinder's older API for groups calls, and never of a driver that has the newer.
OLDER = """
    create_consistencygroup create_consistencygroup_from_src delete_consistencygroup
    update_consistencygroup create_cgsnapshot delete_cgsnapshot
""".split()

#: What is absent until the appliance replicates.
ABSENT = """
    failover_host failover failover_completed enable_replication disable_replication
    failover_replication get_replication_error_status
""".split()


def base_of(name: str) -> Any:
    """The method as Cinder's base classes have it."""
    for base in (cinder_driver.VolumeDriver, cinder_driver.BaseVD):
        if name in vars(base):
            return vars(base)[name]
    for base in cinder_driver.VolumeDriver.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def names_of(method: Any) -> list[str]:
    """The names that arguments can be given by."""
    if isinstance(method, staticmethod):
        method = method.__func__
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in kinds
    ]


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("name", OWN)
def test_it_is_our_own(kind: type[AshlarDriver], name: str) -> None:
    method = inspect.getattr_static(kind, name)
    [owner] = [base for base in kind.__mro__ if vars(base).get(name) is method][:1]
    assert owner.__module__.startswith("ashlar_cinder."), f"{name} is of {owner}"


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("name", OWN)
def test_it_takes_what_cinder_gives(kind: type[AshlarDriver], name: str) -> None:
    base = base_of(name)
    if name == "_update_volume_stats":
        # Cinder calls it, and has none of its own.
        assert base is None
        return
    assert names_of(inspect.getattr_static(kind, name)) == names_of(base)


@pytest.mark.parametrize("kind", DRIVERS)
def test_nothing_of_the_interface_was_forgotten(kind: type[AshlarDriver]) -> None:
    wanted: set[str] = set()
    for module in (
        "volume_driver",
        "volume_group_driver",
        "volume_manageable_driver",
        "volume_snapshotmanagement_driver",
        "volume_snapshot_revert",
        "volume_consistencygroup_driver",
    ):
        loaded = importlib.import_module(f"cinder.interface.{module}")
        for _, one in inspect.getmembers(loaded, inspect.isclass):
            if one.__module__ == loaded.__name__:
                wanted |= {name for name in vars(one) if inspect.isfunction(vars(one)[name])}
    accounted = {*OWN, *INHERITED, *OLDER, *ABSENT}
    assert {name for name in wanted if name not in accounted} == set()
    for name in (*OWN, *INHERITED):
        assert hasattr(kind, name), name


@pytest.mark.parametrize("kind", DRIVERS)
def test_replication_is_absent(kind: type[AshlarDriver]) -> None:
    for name in ABSENT:
        owner = next(base for base in kind.__mro__ if name in vars(base))
        assert owner.__module__ == "cinder.volume.driver"
    for feature in kind.REPLICATION_FEATURE_CHECKERS:
        assert not kind.supports_replication_feature(feature)


def test_all_are_registered() -> None:
    found = {one.class_fqn for one in interface_util.get_volume_drivers()}
    for kind in DRIVERS:
        assert f"{kind.__module__}.{kind.__name__}" in found


def test_cinder_s_own_compliance_suite_agrees() -> None:
    result = unittest.TestResult()
    tested = {one.class_fqn for one in test_volume_drivers.VOLUME_DRIVERS}
    assert {f"{kind.__module__}.{kind.__name__}" for kind in DRIVERS} <= tested
    unittest.defaultTestLoader.loadTestsFromModule(test_volume_drivers).run(result)
    assert result.wasSuccessful(), result.failures + result.errors
    assert result.testsRun > len(DRIVERS)
