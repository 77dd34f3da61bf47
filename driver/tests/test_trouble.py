"""What becomes of each call when something goes wrong on the way, or with the appliance."""

from __future__ import annotations

import concurrent.futures
import datetime
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import group_types, volume_types
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client, Identity, Patience
from ashlar_cinder.client.streams import ExtentsReader
from ashlar_cinder.client.transport import Request, Transport
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests.between import Between, Trouble
from tests.conftest import World, _tidy
from tests.test_groups import group_of, snapshot_of
from tests.test_images import ImageService, check_same, qcow2, sample
from tests.test_volumes import host_of, jobs_of, there, type_of

GIB = 1 << 30
MIB = 1 << 20
SECRET = "Configured-Pw1"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: How long anything may take, on a busy machine.
PATIENCE = 60


def plain(value: Any) -> Any:
    """Something of the appliance's, but for ids, times and what follows from them."""
    if isinstance(value, dict):
        left = value.keys() - {"created", "generation", "iscsi", "nvme"}
        return {key: plain(value[key]) for key in sorted(left)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return "ID"
    return _UUID.sub("ID", value) if isinstance(value, str) else value


@dataclass
class Scene:
    """A driver that talks to the appliance by what stands between."""

    world: World
    client: Client
    connector: Callable[[str], dict[str, Any]]
    kind: type[AshlarDriver]

    def made(self, **settings: Any) -> AshlarDriver:
        """One more of them."""
        return self.world.driver(
            self.kind,
            use_chap_auth=True,
            chap_password=SECRET,
            ashlar_nvme_authentication="none",
            **settings,
        )

    def volume(self, driver: AshlarDriver, **settings: Any) -> Any:
        """One that is there."""
        one = self.world.volume(**settings)
        driver.create_volume(one)
        return one

    def _all(self, kind: str) -> list[Any]:
        """Of all kinds there are fewer than a page has."""
        found: list[Any] = self.client._get(f"/v1/{kind}")["items"]
        return found

    def there(self) -> dict[str, list[str]]:
        """What the appliance has, but for what is another each time."""
        kinds = "volumes snapshots connections hosts groups group-snapshots".split()
        found = {kind: [plain(one) for one in self._all(kind)] for kind in kinds}
        for name, pool in self.world.appliance.pools.items():
            of_pool = [one for one in self._all("volumes") if one["pool"] == pool.bytes]
            thin = list(self.client.thin_devices(pool))
            found[name] = [f"{len(of_pool)} volumes, {len(thin)} thin devices"]
        return {kind: sorted(map(str, some)) for kind, some in found.items()}

    def there_soon(self, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
        """The same; what a killed agent was at may be tidied up a little later."""
        until(lambda: self.there() == wanted)
        return self.there()

    def tidy(self) -> None:
        """Leaves the appliance as it was found."""
        for one in self._all("group-snapshots"):
            self.client.delete_group_snapshot(uuid.UUID(bytes=one["id"]))
        for one in self._all("groups"):
            self.client.delete_group(uuid.UUID(bytes=one["id"]))
        _tidy(self.client)


def leaked(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Which secrets were logged: the hosts', or keys."""
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    told = "\n".join(map(logging.Formatter().format, records))
    return {secret for secret in (SECRET, "PRIVATE KEY") if secret in told}


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    world: World,
    client: Client,
    connector: Any,
    between: Between,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """Nothing that is logged, at debug level either, has a secret."""
    monkeypatch.setattr("ashlar_cinder.client.transport._FIRST_PAUSE", 0.01)
    caplog.set_level(logging.DEBUG)
    one = Scene(world, client, connector, getattr(request, "param", AshlarISCSIDriver))
    yield one
    between.meet()
    one.tidy()
    assert not leaked(caplog)


def test_a_secret_that_is_logged_is_found(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``scene`` looks for could be seen: were bodies logged, it would be."""
    attempt = Transport._attempt

    def told(self: Transport, request: Request, *rest: Any) -> Any:
        logging.getLogger(__name__).debug("%s", request.body)
        return attempt(self, request, *rest)

    monkeypatch.setattr(Transport, "_attempt", told)
    driver = scene.made()
    assert leaked(caplog) == set()
    driver.initialize_connection(scene.volume(driver), scene.connector("alpha"))
    assert leaked(caplog) == {SECRET}
    key = Path(scene.world.appliance.identity().key)
    logging.getLogger(__name__).debug(key.read_text())
    assert leaked(caplog) == {SECRET, "PRIVATE KEY"}
    caplog.clear()


def until(happened: Callable[[], bool]) -> bool:
    """Waits until something has happened; whether it has."""
    begin = time.monotonic()
    while not happened():
        if time.monotonic() - begin > PATIENCE:
            return False
        time.sleep(0.02)
    return True


def check_content(scene: Scene, volume: Any, content: bytes) -> None:
    """That a volume begins with it; all that is zero behind that would take longer."""
    with scene.client.read_extents("volume", uuid.UUID(volume.id)) as stream:
        reader, found = ExtentsReader(stream), b""
        while len(found) < len(content):
            found += reader.read(len(content) - len(found))
    check_same(found, content)


# ---- Requests -----------------------------------------------------------------------------------


class Call:
    """A call of a driver's."""

    def __init__(self, name: str, *arguments: Any, **more: Any) -> None:
        self.name = name
        self._arguments = arguments
        self._more = more

    def __call__(self, driver: AshlarDriver) -> Any:
        return getattr(driver, self.name)(*self._arguments, **self._more)


#: Calls, one after the other.
Calls = Iterator[Call]


def volumes(scene: Scene, driver: AshlarDriver) -> Calls:
    volume = scene.world.volume()
    yield Call("create_volume", volume)
    yield Call("get_pool", volume)
    yield Call("extend_volume", volume, 2)
    snapshot = scene.world.snapshot(volume)
    yield Call("create_snapshot", snapshot)
    yield Call("create_volume_from_snapshot", scene.world.volume(size=2), snapshot)
    yield Call("create_cloned_volume", scene.world.volume(size=2), volume)
    yield Call("revert_to_snapshot", scene.world.context, volume, snapshot)
    yield Call("accept_transfer", scene.world.context, volume, "user", "project")
    yield Call("delete_snapshot", snapshot)
    yield Call("delete_volume", volume)


def clearing(scene: Scene, driver: AshlarDriver) -> Calls:
    """By an appliance that answers with a job."""
    volume = scene.volume(driver)
    service = ImageService(b"x" * MIB)
    driver.copy_image_to_volume(scene.world.context, volume, service, service.meta["id"])
    yield Call("delete_volume", volume)


def connections(scene: Scene, driver: AshlarDriver) -> Calls:
    volume = scene.volume(driver, multiattach=True)
    snapshot = scene.world.snapshot(volume)
    driver.create_snapshot(snapshot)
    alpha, beta = scene.connector("alpha"), scene.connector("beta")
    # The first makes the host known.
    yield Call("initialize_connection", volume, alpha)
    yield Call("initialize_connection", volume, beta)
    yield Call("terminate_connection", volume, alpha)
    yield Call("terminate_connection", volume, None, force=True)
    if not driver.ONLY_READS:
        yield Call("create_export_snapshot", scene.world.context, snapshot, alpha)
    yield Call("initialize_connection_snapshot", snapshot, alpha)
    yield Call("terminate_connection_snapshot", snapshot, alpha)
    yield Call("remove_export_snapshot", scene.world.context, snapshot)


def groups(scene: Scene, driver: AshlarDriver) -> Calls:
    world, context = scene.world, scene.world.context
    specs = {"consistent_group_snapshot_enabled": "<is> True"}
    group_type = str(group_types.create(context, str(uuid.uuid4()), specs).id)
    group, copy = group_of(world, group_type), group_of(world, group_type)
    born, joins = world.volume(group_id=group.id), scene.volume(driver)
    yield Call("create_group", context, group)
    yield Call("create_volume", born)
    yield Call("update_group", context, group, [joins], [])
    instant, snapshots = snapshot_of(world, group, group_type, [born, joins])
    yield Call("create_group_snapshot", context, instant, snapshots)
    copies = [world.volume(group_id=copy.id) for _ in snapshots]
    yield Call("create_group_from_src", context, copy, copies, instant, snapshots)
    yield Call("delete_group_snapshot", context, instant, snapshots)
    yield Call("delete_group", context, group, [born, joins])


def pools(scene: Scene, driver: AshlarDriver) -> Calls:
    context, volume = scene.world.context, scene.volume(driver)
    limited = type_of(scene.world, {"provisioning:type": "thick"}, {"total_iops_sec": "500"})
    new_type = volume_types.get_volume_type(context, limited)
    second, tank = host_of(driver, "second"), host_of(driver, "tank")
    yield Call("retype", context, volume, new_type, {}, second)
    volume.host = second["host"]
    yield Call("migrate_volume", context, volume, tank)


def managing(scene: Scene, driver: AshlarDriver) -> Calls:
    volume, again, adopted = scene.volume(driver), scene.world.volume(), scene.world.volume()
    snapshot = scene.world.snapshot(volume)
    driver.create_snapshot(snapshot)
    yield Call("unmanage", volume)
    yield Call("get_manageable_volumes", [], None, 10, 0, ["size"], ["asc"])
    reference = {"source-id": volume.id}
    yield Call("manage_existing_get_size", again, reference)
    yield Call("manage_existing", again, reference)
    of_snapshot = {"source-id": snapshot.id}
    snapshot.destroy()
    yield Call("get_manageable_snapshots", [], None, 10, 0, ["size"], ["asc"])
    yield Call("manage_existing_snapshot_get_size", snapshot, of_snapshot)
    yield Call("manage_existing_snapshot", scene.world.snapshot(volume), of_snapshot)
    scene.client.delete_snapshot(uuid.UUID(snapshot.id))
    # One that is nobody's.
    scene.client.release_volume(uuid.UUID(volume.id))
    [thin] = scene.client.thin_devices(scene.world.appliance.pools["tank"])
    yield Call("manage_existing", adopted, {"source-name": f"tank/{thin['thin_id']}"})


STORIES: list[tuple[Any, type[AshlarDriver], dict[str, Any]]] = [
    (volumes, AshlarISCSIDriver, {}),
    (clearing, AshlarISCSIDriver, {"ashlar_volume_clear": "zero"}),
    (connections, AshlarISCSIDriver, {}),
    (connections, AshlarNVMeDriver, {}),
    (groups, AshlarISCSIDriver, {}),
    (pools, AshlarISCSIDriver, {}),
    (managing, AshlarISCSIDriver, {}),
]


@pytest.mark.parametrize(
    ("story", "scene", "settings"),
    [pytest.param(*one, id=f"{one[0].__name__}-{one[1].HOST_KEY}") for one in STORIES],
    indirect=["scene"],
)
def test_trouble_on_the_way_is_not_noticed(
    scene: Scene, between: Between, story: Any, settings: dict[str, Any]
) -> None:
    """Each call is tried while the appliance is gone, which changes nothing. Then the answer to
    each of its requests is lost, and at its first change the agent is killed.
    """
    driver, impatient = scene.made(**settings), scene.made(**settings, ashlar_patience=0)
    wanted = []
    for call in story(scene, driver):
        call(driver)
        wanted.append((call.name, scene.there()))
    scene.tidy()
    for call, (name, after) in zip(story(scene, driver), wanted, strict=True):
        before = scene.there()
        between.meet(always=Trouble.GONE)
        with pytest.raises(exception.VolumeBackendAPIException, match=between.endpoint):
            call(impatient)
        assert (call.name, scene.there()) == (name, before)
        between.meet(once=Trouble.KILLED, first=Trouble.LOST)
        call(driver)
        attempts = between.attempts()
        between.meet()
        assert (call.name, scene.there_soon(after)) == (name, after)
        # All of it has happened, and each was asked no more often than that.
        assert set(attempts) == {2}, name


def test_statistics_with_trouble_on_the_way(
    scene: Scene, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = scene.made()

    def states() -> set[str]:
        found = driver.get_volume_stats(refresh=True)["pools"]
        return {pool["backend_state"] for pool in found}

    between.meet(first=Trouble.LOST)
    assert states() == {"up"}
    assert between.attempts() == [2]
    monkeypatch.setattr("ashlar_cinder.base._SHORTLY", Patience(0))
    between.meet(always=Trouble.GONE)
    assert states() == {"down"}
    between.meet()
    assert states() == {"up"}


def test_an_answer_that_does_not_come_is_asked_for_again(
    scene: Scene, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, volume = scene.made(), scene.world.volume()
    # One second is waited for it.
    monkeypatch.setattr("ashlar_cinder.client.transport.GRACE", -29)
    between.meet(first=Trouble.LATE)
    driver.create_volume(volume)
    assert min(between.attempts()) > 1
    assert there(scene.client, volume)["size"] == GIB


def test_a_move_whose_agent_is_killed_is_begun_again(
    scene: Scene, between: Between, traffic: list[str]
) -> None:
    driver = scene.made(volume_copy_bps_limit=MIB)
    volume, second = scene.volume(driver), host_of(driver, "second")
    # Enough that it is under way when that happens.
    service = ImageService(b"x" * 2 * MIB)
    scene.made().copy_image_to_volume(scene.world.context, volume, service, service.meta["id"])
    traffic.clear()
    between.meet(once=Trouble.KILLED)
    assert driver.migrate_volume(scene.world.context, volume, second) == (True, None)
    # What became of the first is asked for once.
    assert [asked for asked in traffic if asked.startswith("POST")] == [
        f"POST /v1/volumes/{volume.id}/move"
    ] * 3
    assert there(scene.client, volume)["pool"] == scene.world.appliance.pools["second"].bytes
    check_content(scene, volume, service.content)


def test_what_is_busy_is_waited_for(scene: Scene, traffic: list[str]) -> None:
    """An image is on its way to a volume that is destroyed meanwhile."""
    driver = scene.made()
    volume, refused = scene.volume(driver), threading.Event()

    class Slow(ImageService):
        def download(self, context: Any, image_id: str, data: Any = None) -> Any:
            yield self.content[:MIB]
            assert refused.wait(PATIENCE)
            yield self.content[MIB:]

    service = Slow(sample(2 * MIB))
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        writing = threads.submit(
            driver.copy_image_to_volume, scene.world.context, volume, service, service.meta["id"]
        )
        assert until(
            lambda: any(job["state"] == "running" for job in jobs_of(scene.client, volume))
        )
        deleting = threads.submit(driver.delete_volume, volume)
        # Among others it is refused, and then asked for on its own.
        path = f"DELETE /v1/volumes/{volume.id}"
        assert until(lambda: traffic.count(path) > 1)
        refused.set()
        writing.result(timeout=PATIENCE)
        deleting.result(timeout=PATIENCE)
    assert traffic.count("POST /v1/bulk") == 1
    assert not list(scene.client.volumes())


def test_a_full_pool_is_told_and_nothing_is_done(scene: Scene) -> None:
    """All of a pool is kept for a thick volume, and the others that would be are refused."""
    world, context, driver = scene.world, scene.world.context, scene.made()
    thick = type_of(world, {"provisioning:type": "thick"})
    small, thin = scene.volume(driver, volume_type_id=thick), scene.volume(driver)
    elsewhere = scene.volume(driver, pool="second", volume_type_id=thick)
    [capacity] = [pool["capacity"] for pool in scene.client.pools() if pool["name"] == "tank"]
    scene.volume(driver, size=capacity // GIB - 1, volume_type_id=thick)
    limited = type_of(world, {"provisioning:type": "thick"}, {"total_iops_sec": "500"})
    new_type, tank = volume_types.get_volume_type(context, limited), host_of(driver, "tank")
    before = scene.there()
    for call in (
        Call("create_volume", world.volume(volume_type_id=thick)),
        Call("extend_volume", small, 2),
        Call("create_cloned_volume", world.volume(volume_type_id=thick), thin),
        Call("retype", context, thin, new_type, {}, {"host": thin.host}),
        Call("retype", context, elsewhere, new_type, {}, tank),
        Call("migrate_volume", context, elsewhere, tank),
    ):
        with pytest.raises(exception.VolumeBackendAPIException, match="no-space"):
            call(driver)
        assert (call.name, scene.there()) == (call.name, before)


# ---- Streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_format", "trouble"),
    [
        ("raw", Trouble.GONE),
        ("raw", Trouble.CUT),
        ("raw", Trouble.KILLED),
        ("raw", Trouble.LOST),
        ("qcow2", Trouble.CUT),
        ("qcow2", Trouble.LOST),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_image_on_its_way_to_a_volume(
    scene: Scene,
    between: Between,
    tmp_path: Path,
    traffic: list[str],
    image_format: str,
    trouble: Trouble,
) -> None:
    """It is not sent again. Whether it is there is looked up if all of it was sent, and otherwise
    Cinder may begin anew.
    """
    driver, context = scene.made(), scene.world.context
    volume, content = scene.volume(driver), sample(2 * MIB)
    image = content if image_format == "raw" else qcow2(tmp_path, content)
    service = ImageService(image, disk_format=image_format)

    def copy() -> None:
        driver.copy_image_to_volume(context, volume, service, service.meta["id"])

    if trouble is Trouble.KILLED:
        between.meet(once=trouble)
    else:
        between.meet(first=trouble)
    if trouble is Trouble.LOST:
        copy()
    else:
        with pytest.raises(exception.VolumeBackendAPIException):
            copy()
        between.meet()
        copy()
    sent = [asked for asked in traffic if asked.startswith("PUT") and "/data" in asked]
    assert len(sent) == (1 if trouble is Trouble.LOST else 2)
    check_content(scene, volume, content)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_volume_on_its_way_to_an_image(scene: Scene, between: Between, image_format: str) -> None:
    """It breaks off, and leaves nothing."""
    driver, context = scene.made(), scene.world.context
    volume, service = scene.volume(driver), ImageService(sample(2 * MIB))
    driver.copy_image_to_volume(context, volume, service, service.meta["id"])
    # For as long as hosts use it, it is a snapshot that is read.
    driver.initialize_connection(volume, scene.connector("alpha"))
    before = scene.there()
    meta = service.meta | {"disk_format": image_format}
    between.meet(first=Trouble.CUT)
    with pytest.raises(exception.VolumeBackendAPIException, match=between.endpoint):
        driver.copy_volume_to_image(context, volume, service, meta)
    assert scene.there() == before


# ---- What Cinder's service makes of it ----------------------------------------------------------


@pytest.fixture
def service(scene: Scene) -> Any:
    """Cinder's service upon a driver that gives up at once."""
    manager = scene.world.manager(use_chap_auth=True, chap_password=SECRET, ashlar_patience=0)
    assert manager.driver.initialized
    return manager


def of(service: Any, scene: Scene, **settings: Any) -> Any:
    """A volume that Cinder has."""
    return scene.world.volume(host=f"{service.host}#tank", **settings)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("create_volume", "error"),
        ("extend_volume", "error_extending"),
        ("delete_volume", "error_deleting"),
        ("create_snapshot", "available"),
        ("initialize_connection", "available"),
    ],
)
def test_what_cinder_has_of_a_volume_when_the_appliance_is_gone(
    service: Any,
    scene: Scene,
    between: Between,
    caplog: pytest.LogCaptureFixture,
    name: str,
    status: str,
) -> None:
    context = scene.world.context
    arguments: dict[str, tuple[Any, ...]] = {
        "create_volume": ({}, {}, False),
        "extend_volume": (2, []),
        "initialize_connection": (scene.connector("alpha"),),
    }
    volume = of(service, scene, status="creating" if name == "create_volume" else "available")
    if name != "create_volume":
        service.driver.create_volume(volume)
    one = scene.world.snapshot(volume, status="creating") if "snapshot" in name else volume
    between.meet(always=Trouble.GONE)
    said = ""
    try:
        getattr(service, name)(context, one, *arguments.get(name, ()))
    except exception.CinderException as error:
        # What called it logs it.
        said = str(error)
    between.meet()
    said += "".join(
        logging.Formatter().format(record)
        for record in caplog.records
        if record.levelno >= logging.ERROR
    )
    # An operator can see which appliance it is.
    assert between.endpoint in said
    volume.refresh()
    assert volume.status == status
    if one is not volume:
        one.refresh()
        assert one.status == "error"
    # Once it is there again, it can be deleted.
    service.delete_volume(context, volume)
    assert not list(scene.client.volumes())


def test_what_cinder_has_and_the_appliance_has_not(
    service: Any, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleting it succeeds. All else fails and names it."""
    context, volume = scene.world.context, of(service, scene)
    for name, arguments in (
        ("create_snapshot", ()),
        ("initialize_connection", (scene.connector("alpha"),)),
    ):
        one = scene.world.snapshot(volume) if "snapshot" in name else volume
        with pytest.raises(exception.CinderException, match=volume.id):
            getattr(service, name)(context, one, *arguments)
    service.extend_volume(context, volume, 2, [])
    volume.refresh()
    assert volume.status == "error_extending"
    assert volume.id in caplog.text
    snapshot = scene.world.snapshot(volume, status="deleting")
    service.delete_snapshot(context, snapshot)
    with pytest.raises(exception.SnapshotNotFound):
        objects.Snapshot.get_by_id(context, snapshot.id)
    service.delete_volume(context, volume)
    with pytest.raises(exception.VolumeNotFound):
        objects.Volume.get_by_id(context, volume.id)


def test_what_the_appliance_has_and_cinder_has_not(service: Any, scene: Scene) -> None:
    """Left as it is at a start, shown among those to be managed, and not in the way of others."""
    left, new = uuid.uuid4(), of(service, scene, status="creating")
    spec = {"name": "left", "pool": scene.world.appliance.pools["tank"], "size": GIB}
    scene.client.create_volume(left, spec | {"labels": {"cinder": str(left)}})
    service.init_host(added_to_cluster=False, service_id=1)
    service.create_volume(scene.world.context, new, {}, {}, allow_reschedule=False)
    found = service.driver.get_manageable_volumes([new], None, 10, 0, ["size"], ["asc"])
    by_id = {entry["reference"]["source-id"]: entry for entry in found}
    assert by_id[new.id]["cinder_id"] == new.id
    assert by_id[str(left)]["cinder_id"] is None
    # It may be another Cinder's.
    assert by_id[str(left)]["safe_to_manage"] is False


def test_two_services_work_on_one_backend_at_once(scene: Scene) -> None:
    services = [scene.made() for _ in range(2)]
    shared = [scene.world.volume() for _ in range(6)]
    for volume in shared:
        # Loaded here: a database in memory is one thread's.
        assert volume.volume_type is not None
        assert volume.volume_attachment is not None
    host = scene.connector("alpha")

    def life(asked: tuple[AshlarDriver, Any]) -> Any:
        one, volume = asked
        one.create_volume(volume)
        return volume.id, one.initialize_connection(volume, host)

    def end(asked: tuple[AshlarDriver, Any]) -> None:
        one, volume = asked
        one.terminate_connection(volume, host)
        one.delete_volume(volume)

    asked = [(one, volume) for volume in shared for one in services]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as threads:
        infos = list(threads.map(life, asked))
        # Both are told the same of each.
        assert infos[::2] == infos[1::2]
        assert len(list(scene.client.connections())) == len(shared)
        assert len(list(scene.client.hosts())) == 1
        list(threads.map(end, asked))
    assert not list(scene.client.volumes())


# ---- Certificates -------------------------------------------------------------------------------


def expired(pki: Path, name: str, place: Path) -> Path:
    """A certificate as another, of the same authority and for the same key, whose time is over."""
    authority = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate((pki / f"{name}.pem").read_bytes())
    end = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=1))
        .not_valid_after(end)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    path = place / f"{name}.pem"
    made = builder.sign(authority, hashes.SHA256())  # type: ignore[arg-type]
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def test_our_certificate_is_over(world: World, tmp_path: Path) -> None:
    own = expired(world.appliance.pki, "operator", tmp_path)
    driver = world.unready(driver_client_cert=str(own), ashlar_patience=0)
    driver.do_setup(world.context)
    with pytest.raises(exception.VolumeBackendAPIException, match=r"(?i)certificate.?expired"):
        driver.check_for_setup_error()


def test_the_appliance_s_certificate_is_over(world: World, tmp_path: Path) -> None:
    theirs = expired(world.appliance.pki, "server", tmp_path)
    between = Between(world.appliance, certificate=theirs)
    driver = world.unready(ashlar_endpoint=between.endpoint, ashlar_patience=0)
    driver.do_setup(world.context)
    with pytest.raises(exception.VolumeBackendAPIException, match="certificate has expired"):
        driver.check_for_setup_error()
    between.close()


@pytest.mark.parametrize(("role", "code"), [("reader", "forbidden"), ("roleless", "no-role")])
def test_a_certificate_without_leave(world: World, role: str, code: str) -> None:
    volume = world.volume()
    identity: Identity = world.appliance.identity(role)
    driver = world.unready(
        driver_client_cert=identity.certificate, driver_client_cert_key=identity.key
    )
    driver.do_setup(world.context)
    with pytest.raises(exception.VolumeBackendAPIException, match=code):
        driver.create_volume(volume)
