"""Secrets reach hosts and the appliance, and no log, at debug level either."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ashlar_cinder.iscsi import AshlarISCSIDriver
from tests.conftest import World


@pytest.mark.parametrize("password", [None, "Configured-Pw1"])
def test_no_log_has_a_secret(
    world: World, connector: Any, caplog: pytest.LogCaptureFixture, password: str | None
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"chap_password": password} if password else {}
    driver = world.driver(AshlarISCSIDriver, use_chap_auth=True, **settings)
    volume = world.volume()
    driver.create_volume(volume)
    data = driver.initialize_connection(volume, connector("alpha"))["data"]
    secret = data["auth_password"]
    # A host with another secret, and then a volume that is used.
    with pytest.raises(Exception, match="earlier secret"):
        world.driver(
            AshlarISCSIDriver, use_chap_auth=True, chap_password="Another-Pw-12"
        ).initialize_connection(volume, connector("alpha"))
    with pytest.raises(Exception, match="in-use"):
        driver.delete_volume(volume)
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)
    said = "\n".join(
        [record.getMessage() + str(record.exc_text or "") for record in caplog.records]
    )
    assert "PUT /v1/hosts/" in said
    for word in (secret, "Another-Pw-12"):
        assert word not in said
        assert word not in repr(vars(driver))
