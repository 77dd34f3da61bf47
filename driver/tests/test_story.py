"""A whole Cinder, through its public API, against an appliance.

The appliance is the model; with ``ASHLAR_STORY`` set it is the one that ``ASHLAR_ENDPOINT``,
``ASHLAR_CERT``, ``ASHLAR_KEY`` and ``ASHLAR_CA`` name, as for ``ashlarctl``. It has two pools and
nothing else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ashlar_cinder.client import Client, Endpoint, Identity
from tests.appliance import Appliance
from tests.cinder_api import OTHER_PROJECT, PATIENCE, PROJECT, CinderApi, CinderError
from tests.image_service import ImageService

GIB = 1 << 30
DRIVERS = {
    "iscsi": "ashlar_cinder.iscsi.AshlarISCSIDriver",
    "nvme": "ashlar_cinder.nvme.AshlarNVMeDriver",
}

CONFIG = """
[DEFAULT]
host = story
state_path = {place}
log_file = {place}/cinder.log
debug = True
transport_url = kombu+memory://
auth_strategy = noauth
api_paste_config = {prefix}/etc/cinder/api-paste.ini
resource_query_filters_file = {prefix}/etc/cinder/resource_filters.json
enabled_backends = iscsi,nvme
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
scheduler_driver_init_wait_time = 1
# Several services in one process report as one.
service_down_time = 86400
periodic_interval = 2
backend_stats_polling_interval = 3
glance_api_servers = {images}
enable_force_upload = True
allowed_direct_url_schemes = cinder
rpc_response_timeout = 60
[database]
connection = sqlite:///{place}/cinder.sqlite
[oslo_concurrency]
lock_path = {place}/locks
[coordination]
backend_url = file://{place}/coordination
[oslo_messaging_notifications]
driver = noop
"""

BACKEND = """
[{name}]
volume_driver = {driver}
volume_backend_name = {name}
ashlar_endpoint = {endpoint}
driver_client_cert = {identity.certificate}
driver_client_cert_key = {identity.key}
driver_ssl_cert_path = {identity.authority}
use_chap_auth = True
ashlar_nvme_authentication = none
max_over_subscription_ratio = 20
"""

#: Raw images of this one's volumes stay where they are, as clones.
KEEPS_IMAGES = "nvme"


class Story:
    """Cinder and the appliance, side by side."""

    def __init__(self, client: Client, images: ImageService, port: int, place: Path) -> None:
        self.api = CinderApi(port)
        self.client = client
        self.images = images
        self.port = port
        self.place = place
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts Cinder's services, and waits until there are pools to be used."""
        own = Path(__file__).parents[1]
        with (self.place / "output").open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.plane", self.place / "cinder.conf"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                cwd=own,
                env=os.environ | {"PATH": f"{self.place}:{sys.prefix}/bin:{os.environ['PATH']}"},
            )
        assert self._process.stdout
        ready = self._process.stdout.readline().strip()
        assert ready == "ready", (self.place / "output").read_text()[-3000:]
        wanted = len(DRIVERS) * len(self.client.pools())
        begin = time.monotonic()
        while len(self.api.ask("GET", "/scheduler-stats/get_pools?detail=true")["pools"]) < wanted:
            assert time.monotonic() - begin < PATIENCE, (self.place / "cinder.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Ends Cinder's services wherever they are."""
        assert self._process
        self._process.kill()
        self._process.wait(timeout=30)

    def there(self, volume: Any) -> Any:
        """A volume as the appliance has it."""
        return self.client.volume(uuid.UUID(volume["id"]))

    def left(self) -> list[Any]:
        """Everything that is on the appliance but pools and hosts."""
        return [
            *self.client.volumes(),
            *self.client.snapshots(),
            *self.client.connections(),
        ]


@pytest.fixture(scope="module")
def where(request: pytest.FixtureRequest) -> tuple[str, Identity]:
    """Where the appliance is, and who we are."""
    if os.environ.get("ASHLAR_STORY"):
        paths = (os.environ[f"ASHLAR_{name}"] for name in ("CERT", "KEY", "CA"))
        return os.environ["ASHLAR_ENDPOINT"], Identity(*paths)
    model: Appliance = request.getfixturevalue("appliance")
    return model.endpoint, model.identity()


@pytest.fixture(scope="module")
def story(where: tuple[str, Identity], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A Cinder that was just set up."""
    endpoint, identity = where
    place = tmp_path_factory.mktemp("cinder")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    images = ImageService(PROJECT)
    text = CONFIG.format(place=place, prefix=sys.prefix, port=port, images=images.url)
    for name, driver in DRIVERS.items():
        text += BACKEND.format(name=name, driver=driver, endpoint=endpoint, identity=identity)
        if name == KEEPS_IMAGES:
            text += "image_upload_use_cinder_backend = True\n"
    config = place / "cinder.conf"
    config.write_text(text)
    # Cinder looks at images by "sudo cinder-rootwrap CONFIG COMMAND": here it need be nobody else.
    sudo = place / "sudo"
    sudo.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    sudo.chmod(0o755)
    client = Client(Endpoint.parse(endpoint), identity)
    one = Story(client, images, port, place)
    one.start()
    yield one
    one.kill()
    images.close()
    client.close()


@pytest.fixture(params=list(DRIVERS))
def backend(request: pytest.FixtureRequest, story: Story) -> Iterator[str]:
    """A type of each backend. What is left on the appliance in the end is a failure."""
    name = str(request.param)
    api = story.api
    made = api.ask("POST", "/types", {"volume_type": {"name": f"{name}-{uuid.uuid4()}"}})
    made = made["volume_type"]
    specs = {"volume_backend_name": name, "multiattach": "<is> True"}
    api.ask("POST", f"/types/{made['id']}/extra_specs", {"extra_specs": specs})
    yield made["id"]
    left = [*story.left(), *api.ask("GET", "/volumes")["volumes"]]
    # So that one failure is not all of them.
    for attachment in api.ask("GET", "/attachments")["attachments"]:
        api.detach(attachment["id"])
    for volume in api.ask("GET", "/volumes")["volumes"]:
        api.act(volume["id"], "os-force_delete")
        api.gone("volume", volume["id"])
    assert left == []


def connector(name: str) -> dict[str, Any]:
    """What os-brick says of a host."""
    return {
        "host": name,
        "initiator": f"iqn.2026-11.org.example:story-{name}",
        "nqn": f"nqn.2026-11.org.example:story-{name}",
        "ip": "192.0.2.9",
        "platform": "x86_64",
        "os_type": "linux",
        "multipath": False,
    }


def test_a_volume_lives(story: Story, backend: str) -> None:
    api = story.api
    volume = api.make("volume", size=1, volume_type=backend)
    assert story.there(volume)["size"] == GIB
    pool = volume["os-vol-host-attr:host"].rsplit("#", 1)[1]
    [found] = [one for one in story.client.pools() if one["name"] == pool]
    assert found["id"] == story.there(volume)["pool"]

    attachment = api.attach(volume["id"], connector("alpha"))
    info = attachment["connection_info"]
    assert info["driver_volume_type"] in {"iscsi", "nvmeof"}
    api.until("volume", volume["id"], "in-use")
    assert story.there(volume)["connections"] == 1
    second = api.attach(volume["id"], connector("beta"))
    assert story.there(volume)["connections"] == 2
    again = api.attach(volume["id"], connector("beta"))
    assert story.there(volume)["connections"] == 2

    api.act(volume["id"], "os-extend", new_size=2)
    api.until("volume", volume["id"], "in-use")
    assert story.there(volume)["size"] == 2 * GIB

    # The host keeps it while another instance there needs it.
    api.detach(again["id"])
    assert story.there(volume)["connections"] == 2
    api.detach(second["id"])
    assert story.there(volume)["connections"] == 1
    with pytest.raises(CinderError, match="400"):
        api.remove("volume", volume["id"])
    api.detach(attachment["id"])
    api.until("volume", volume["id"], "available")
    assert story.there(volume)["connections"] == 0
    api.remove("volume", volume["id"])


def test_snapshots_clones_and_reverts(story: Story, backend: str) -> None:
    api = story.api
    volume = api.make("volume", size=1, volume_type=backend)
    attachment = api.attach(volume["id"], connector("alpha"))
    snapshot = api.make("snapshot", volume_id=volume["id"], force=True)
    assert story.client.snapshot(uuid.UUID(snapshot["id"]))["size"] == GIB
    api.detach(attachment["id"])
    api.until("volume", volume["id"], "available")
    child = api.make("volume", size=2, snapshot_id=snapshot["id"], volume_type=backend)
    assert story.there(child)["size"] == 2 * GIB
    copy = api.make("volume", size=1, source_volid=volume["id"], volume_type=backend)
    assert story.there(copy)["parent"] == {"volume": uuid.UUID(volume["id"]).bytes}
    api.act(volume["id"], "revert", snapshot_id=snapshot["id"])
    api.until("volume", volume["id"], "available")
    for one in (child, copy):
        api.remove("volume", one["id"])
    api.remove("snapshot", snapshot["id"])
    api.make("snapshot", volume_id=volume["id"])
    api.ask("DELETE", f"/volumes/{volume['id']}?cascade=True")
    api.gone("volume", volume["id"])


def test_types_are_kept_to(story: Story, backend: str) -> None:
    api = story.api
    name = api.ask("GET", f"/types/{backend}")["volume_type"]["extra_specs"]["volume_backend_name"]
    qos = api.ask(
        "POST",
        "/qos-specs",
        {"qos_specs": {"name": str(uuid.uuid4()), "consumer": "back-end", "total_iops_sec": "500"}},
    )["qos_specs"]
    limited = api.ask("POST", "/types", {"volume_type": {"name": str(uuid.uuid4())}})["volume_type"]
    specs = {"volume_backend_name": name, "provisioning:type": "thick"}
    api.ask("POST", f"/types/{limited['id']}/extra_specs", {"extra_specs": specs})
    api.ask("GET", f"/qos-specs/{qos['id']}/associate?vol_type_id={limited['id']}")
    volume = api.make("volume", size=1, volume_type=limited["id"])
    assert story.there(volume)["qos"] == {"total_iops": 500}
    assert story.there(volume)["provisioning"] == "thick"
    api.act(volume["id"], "os-retype", new_type=backend, migration_policy="never")
    api.until("volume", volume["id"], "available")
    assert "qos" not in story.there(volume)
    assert story.there(volume)["provisioning"] == "thin"
    api.remove("volume", volume["id"])


def test_a_volume_goes_to_another_pool(story: Story, backend: str) -> None:
    pools = story.client.pools()
    assert len(pools) > 1
    volume = story.api.make("volume", size=1, volume_type=backend)
    host, pool = volume["os-vol-host-attr:host"].rsplit("#", 1)
    other = next(one for one in pools if one["name"] != pool)
    asked = {"host": f"{host}#{other['name']}", "force_host_copy": False}
    story.api.act(volume["id"], "os-migrate_volume", **asked)
    begin = time.monotonic()
    while True:
        now = story.api.show("volume", volume["id"])
        if now["os-vol-mig-status-attr:migstat"] == "success":
            break
        assert now["os-vol-mig-status-attr:migstat"] != "error"
        assert time.monotonic() - begin < PATIENCE
        time.sleep(0.1)
    assert now["os-vol-host-attr:host"] == asked["host"]
    # It went by itself, under the id that it had.
    assert story.there(volume)["pool"] == other["id"]
    story.api.remove("volume", volume["id"])


def test_groups(story: Story, backend: str) -> None:
    api = story.api
    group_type = api.ask("POST", "/group_types", {"group_type": {"name": str(uuid.uuid4())}})
    group_type = group_type["group_type"]["id"]
    specs = {"consistent_group_snapshot_enabled": "<is> True"}
    api.ask("POST", f"/group_types/{group_type}/group_specs", {"group_specs": specs})
    group = api.make("group", group_type=group_type, volume_types=[backend])
    volumes = [
        api.make("volume", size=1, volume_type=backend, group_id=group["id"]) for _ in range(2)
    ]
    there = story.client.group(uuid.UUID(group["id"]))
    assert len(there["volumes"]) == 2
    path = "/group_snapshots"
    asked = {"group_snapshot": {"group_id": group["id"], "name": "instant"}}
    made = api.ask("POST", path, asked)["group_snapshot"]
    wait_for(api, f"{path}/{made['id']}", "group_snapshot")
    assert len(list(story.client.snapshots())) == 2
    asked = {"create-from-src": {"name": "copy", "group_snapshot_id": made["id"]}}
    copy = api.ask("POST", "/groups/action", asked)["group"]
    api.until("group", copy["id"], "available")
    assert len(story.client.group(uuid.UUID(copy["id"]))["volumes"]) == 2
    out = {"group": {"remove_volumes": volumes[0]["id"]}}
    api.ask("PUT", f"/groups/{group['id']}", out)
    api.until("group", group["id"], "available")
    assert len(story.client.group(uuid.UUID(group["id"]))["volumes"]) == 1
    api.ask("DELETE", f"{path}/{made['id']}")
    wait_for_none(api, path, "group_snapshots")
    for one in (group, copy):
        api.ask("POST", f"/groups/{one['id']}/action", {"delete": {"delete-volumes": True}})
        api.gone("group", one["id"])
    api.remove("volume", volumes[0]["id"])


def wait_for(api: CinderApi, path: str, key: str) -> None:
    begin = time.monotonic()
    while (found := api.ask("GET", path)[key])["status"] != "available":
        assert "error" not in found["status"], found
        assert time.monotonic() - begin < PATIENCE
        time.sleep(0.1)


def wait_for_none(api: CinderApi, path: str, key: str) -> None:
    begin = time.monotonic()
    while api.ask("GET", path)[key]:
        assert time.monotonic() - begin < PATIENCE
        time.sleep(0.1)


def test_managing_and_letting_go(story: Story, backend: str) -> None:
    api = story.api
    volume = api.make("volume", size=1, volume_type=backend)
    host = volume["os-vol-host-attr:host"]
    theirs = volume["id"]
    api.act(theirs, "os-unmanage")
    api.gone("volume", theirs)
    assert "labels" not in story.client.volume(uuid.UUID(theirs))
    [entry] = api.ask("GET", f"/manageable_volumes?host={host}")["manageable-volumes"]
    assert entry["reference"] == {"source-id": theirs}
    asked = {"host": host, "ref": entry["reference"], "volume_type": backend}
    made = api.ask("POST", "/manageable_volumes", {"volume": asked})["volume"]
    managed = api.until("volume", made["id"], "available")
    assert managed["size"] == 1
    # The same with a thin device that belongs to none.
    api.act(managed["id"], "os-unmanage")
    api.gone("volume", managed["id"])
    story.client.release_volume(uuid.UUID(theirs))
    pool = host.rsplit("#", 1)[1]
    [found] = [one for one in story.client.pools() if one["name"] == pool]
    [thin] = story.client.thin_devices(uuid.UUID(bytes=found["id"]))
    asked["ref"] = {"source-name": f"{pool}/{thin['thin_id']}"}
    made = api.ask("POST", "/manageable_volumes", {"volume": asked})["volume"]
    managed = api.until("volume", made["id"], "available")
    snapshot = api.make("snapshot", volume_id=managed["id"])
    api.ask("POST", f"/snapshots/{snapshot['id']}/action", {"os-unmanage": None})
    api.gone("snapshot", snapshot["id"])
    asked = {"volume_id": managed["id"], "ref": {"source-id": snapshot["id"]}}
    made = api.ask("POST", "/manageable_snapshots", {"snapshot": asked})["snapshot"]
    again = api.until("snapshot", made["id"], "available")
    api.remove("snapshot", again["id"])
    api.remove("volume", managed["id"])


def test_images(story: Story, backend: str, tmp_path: Path) -> None:
    api = story.api
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(os.urandom(1 << 20) + bytes(1 << 20))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    content = image.read_bytes()
    for disk_format, stored in (("raw", raw.read_bytes()), ("qcow2", content)):
        made = story.images.add(stored, disk_format)
        volume = api.make("volume", size=1, volume_type=backend, imageRef=made)
        assert volume["bootable"] == "true"
        attachment = api.attach(volume["id"], connector("alpha"))
        asked = {"image_name": "out", "disk_format": "qcow2", "force": True}
        out = api.act(volume["id"], "os-volume_upload_image", **asked)
        out = out["os-volume_upload_image"]["image_id"]
        api.until("volume", volume["id"], "in-use")
        assert "encountered an error" not in (story.place / "cinder.log").read_text()
        assert list(story.client.snapshots()) == []
        api.detach(attachment["id"])
        api.until("volume", volume["id"], "available")
        image.write_bytes(story.images.contents[out])
        # One has the size of the volume, the other that of the image: behind that are zeros.
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, image], check=True)
        api.remove("volume", volume["id"])


def test_an_image_that_is_a_volume_is_cloned(story: Story, backend: str) -> None:
    """By its own backend and by the other, to the pool that it is in."""
    api = story.api
    keeping = api.ask("POST", "/types", {"volume_type": {"name": str(uuid.uuid4())}})["volume_type"]
    specs = {"volume_backend_name": KEEPS_IMAGES}
    api.ask("POST", f"/types/{keeping['id']}/extra_specs", {"extra_specs": specs})
    parent = api.make("volume", size=1, volume_type=keeping["id"])
    pool = parent["os-vol-host-attr:host"].rsplit("#", 1)[1]
    api.ask("POST", f"/types/{backend}/extra_specs", {"extra_specs": {"pool_name": pool}})
    asked = {"image_name": "kept", "disk_format": "raw", "container_format": "bare"}
    image = api.act(parent["id"], "os-volume_upload_image", **asked)
    image = image["os-volume_upload_image"]["image_id"]
    api.until("volume", parent["id"], "available")
    [where] = story.images.images[image]["locations"]
    kept = where["url"].removeprefix("cinder://")
    assert story.client.volume(uuid.UUID(kept))["parent"] == {"volume": id_of(parent)}
    assert image not in story.images.contents
    volume = api.make("volume", size=2, volume_type=backend, imageRef=image)
    assert story.there(volume)["parent"] == {"volume": uuid.UUID(kept).bytes}
    assert volume["bootable"] == "true"
    for one in (volume["id"], kept, parent["id"]):
        api.remove("volume", one)
    api.ask("DELETE", f"/types/{keeping['id']}")


def id_of(volume: Any) -> bytes:
    return uuid.UUID(volume["id"]).bytes


def test_consistency_groups_of_the_older_api(story: Story, backend: str) -> None:
    api = story.api
    # Cinder has a group type for them, which asks for one instant.
    group = api.make("consistencygroup", name="older", volume_types=backend)
    volume = api.make("volume", size=1, volume_type=backend, consistencygroup_id=group["id"])
    assert story.client.group(uuid.UUID(group["id"]))["volumes"] == [id_of(volume)]
    instant = api.make("cgsnapshot", name="instant", consistencygroup_id=group["id"])
    [snapshot] = story.client.snapshots()
    assert snapshot["group"] == uuid.UUID(instant["id"]).bytes
    api.remove("cgsnapshot", instant["id"])
    path = f"/consistencygroups/{group['id']}/delete"
    api.ask("POST", path, {"consistencygroup": {"force": True}})
    api.gone("consistencygroup", group["id"])


def test_another_project_accepts_a_volume(story: Story, backend: str) -> None:
    api = story.api
    volume = api.make("volume", size=1, volume_type=backend)
    asked = {"transfer": {"volume_id": volume["id"], "name": "gift"}}
    transfer = api.ask("POST", "/volume-transfers", asked)["transfer"]
    other = CinderApi(story.port, OTHER_PROJECT)
    accept = {"accept": {"auth_key": transfer["auth_key"]}}
    other.ask("POST", f"/volume-transfers/{transfer['id']}/accept", accept)
    other.until("volume", volume["id"], "available")
    assert story.there(volume)["owner"] == OTHER_PROJECT
    other.remove("volume", volume["id"])


@pytest.mark.parametrize("backend", ["iscsi"], indirect=True)
def test_services_that_are_killed_leave_nothing(story: Story, backend: str) -> None:
    api = story.api
    volume = api.make("volume", size=1, volume_type=backend)
    attachment = api.attach(volume["id"], connector("alpha"))
    # Under way when they are killed: an upload, snapshots, volumes.
    api.act(volume["id"], "os-volume_upload_image", image_name="out", force=True)
    parents = [api.make("volume", size=1, volume_type=backend) for _ in range(2)]
    for parent in parents:
        asked = {"snapshot": {"volume_id": parent["id"]}}
        api.ask("POST", "/snapshots", asked)
    for _ in range(3):
        api.ask("POST", "/volumes", {"volume": {"size": 1, "volume_type": backend}})
    story.kill()
    story.start()
    for snapshot in api.ask("GET", "/snapshots")["snapshots"]:
        api.ask("POST", f"/snapshots/{snapshot['id']}/action", {"os-force_delete": None})
        api.gone("snapshot", snapshot["id"], even_in="error")
    api.detach(attachment["id"])
    for left in api.ask("GET", "/volumes")["volumes"]:
        api.act(left["id"], "os-reset_status", status="error")
        api.act(left["id"], "os-force_delete")
        api.gone("volume", left["id"], even_in="error")


def test_a_volume_that_does_not_fit_is_an_error(story: Story, backend: str) -> None:
    with pytest.raises(CinderError, match="is error"):
        story.api.make("volume", size=900, volume_type=backend)
    [failed] = story.api.ask("GET", "/volumes")["volumes"]
    story.api.remove("volume", failed["id"])


def test_no_log_has_a_secret(story: Story, backend: str) -> None:
    volume = story.api.make("volume", size=1, volume_type=backend)
    attachment = story.api.attach(volume["id"], connector("alpha"))
    secret = attachment["connection_info"].get("auth_password")
    story.api.detach(attachment["id"])
    story.api.until("volume", volume["id"], "available")
    story.api.remove("volume", volume["id"])
    said = (story.place / "cinder.log").read_text()
    assert "ashlar_cinder" in said
    assert secret is None or secret not in said
