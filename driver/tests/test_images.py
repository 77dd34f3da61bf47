"""Images, streamed to the appliance and from it."""

from __future__ import annotations

import datetime
import io
import os
import random
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from cinder import exception, objects
from cinder.image import glance, image_utils
from cinder.volume import driver as cinder_driver
from oslo_config import cfg

from ashlar_cinder import ids
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client, Problem, UnreachableError
from ashlar_cinder.client.streams import ExtentsReader
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests.conftest import World

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def driver(world: World) -> AshlarDriver:
    """One is enough: nothing of this is of a transport."""
    return world.driver()


class ImageService:
    """The image service, as far as Cinder's is used."""

    def __init__(self, content: bytes = b"", **meta: Any) -> None:
        self.temp_images: Any = None
        self.content = content
        self.meta: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "size": len(content),
            "disk_format": "raw",
            "container_format": "bare",
        } | meta
        self.stored = b""

    def get_location(self, context: Any, image_id: str) -> tuple[None, None]:
        return None, None

    def show(self, context: Any, image_id: str) -> dict[str, Any]:
        return self.meta

    def download(self, context: Any, image_id: str, data: Any = None) -> Any:
        chunks = (self.content[at : at + 100_000] for at in range(0, len(self.content), 100_000))
        if data is None:
            return chunks
        for chunk in chunks:
            data.write(chunk)
        return None

    def update(self, context: Any, image_id: str, meta: Any, data: Any, **kwargs: Any) -> None:
        self.stored = b"".join(iter(lambda: data.read(MIB), b""))


def sample(size: int) -> bytes:
    """Something here and there, and zeros between."""
    content = bytearray(size)
    noise = random.Random(7).randbytes(200_000)
    for at in (0, size // 3, size - len(noise)):
        content[at : at + len(noise)] = noise
    return bytes(content)


def check_same(found: bytes, wanted: bytes) -> None:
    """Like an assertion, which would show all of it."""
    same = found == wanted
    assert same, f"{len(found)} bytes are not the {len(wanted)} wanted"


def content_of(client: Client, volume: Any, length: int) -> bytes:
    with client.read_extents("volume", uuid.UUID(volume.id)) as stream:
        return ExtentsReader(stream).read(-1)[:length]


def qcow2(tmp_path: Path, content: bytes) -> bytes:
    raw, out = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, out], check=True)
    return out.read_bytes()


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "streamed"])
def test_an_image_becomes_a_volume(
    world: World,
    driver: AshlarDriver,
    client: Client,
    tmp_path: Path,
    image_format: str,
    fetched: bool,
    traffic: list[str],
) -> None:
    content = sample(5 * MIB + 4321)
    image = content if image_format == "raw" else qcow2(tmp_path, content)
    service = ImageService(image, disk_format=image_format)
    volume = world.volume()
    driver.create_volume(volume)
    if fetched:
        # As Cinder leaves it after a look at it.
        path = tmp_path / "fetched"
        path.write_bytes(image)
        kept = image_utils.TemporaryImages.for_image_service(service)
        kept.temporary_images[world.context.user_id] = {service.meta["id"]: str(path)}
    traffic.clear()
    driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    assert len(traffic) == 1
    check_same(content_of(client, volume, len(content)), content)
    pool = client.pools()
    [used] = [one["used"] for one in pool if one["name"] == "tank"]
    # What is zero takes no room.
    assert used < 2 * MIB
    driver.delete_volume(volume)


def test_what_was_in_a_volume_before_is_gone(
    world: World, driver: AshlarDriver, client: Client
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    first, second = b"\xff" * 3 * MIB, bytes(MIB) + b"new"
    for content in (first, second):
        service = ImageService(content)
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    found = content_of(client, volume, GIB)
    assert len(found) == GIB
    check_same(found.rstrip(b"\0"), second)
    driver.delete_volume(volume)


def test_an_image_that_is_too_big(world: World, driver: AshlarDriver, tmp_path: Path) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    service = ImageService(b"x", size=GIB + 1)
    with pytest.raises(exception.ImageTooBig):
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    path = tmp_path / "big"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "2G"], check=True)
    service = ImageService(path.read_bytes(), disk_format="qcow2")
    with pytest.raises(exception.ImageTooBig, match="at most 1073741824 fit"):
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    driver.delete_volume(volume)


def test_an_image_that_is_none(world: World, driver: AshlarDriver, tmp_path: Path) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    service = ImageService(b"nothing of the kind" * 1000, disk_format="qcow2")
    with pytest.raises(exception.ImageUnacceptable):
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    # One that needs another file is not read, either.
    base, path = tmp_path / "base", tmp_path / "upon"
    base.write_bytes(bytes(MIB))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path], check=True
    )
    service = ImageService(path.read_bytes(), disk_format="qcow2")
    with pytest.raises(exception.ImageUnacceptable):
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    driver.delete_volume(volume)


def test_an_image_service_that_breaks_off(
    world: World, driver: AshlarDriver, client: Client
) -> None:
    class Broken(ImageService):
        def download(self, context: Any, image_id: str, data: Any = None) -> Any:
            yield sample(3 * MIB)
            raise OSError("the image service is gone")

    volume = world.volume()
    driver.create_volume(volume)
    broken = Broken(size=5 * MIB)
    with pytest.raises(OSError, match="gone"):
        driver.copy_image_to_volume(world.context, volume, broken, broken.meta["id"])
    # It can be tried again.
    service = ImageService(sample(MIB))
    driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    driver.delete_volume(volume)


def test_a_volume_that_is_busy_is_waited_for(
    world: World, driver: AshlarDriver, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    naps: list[float] = []
    monkeypatch.setattr("ashlar_cinder.images.time.sleep", naps.append)
    answers = [Problem("busy", "it is written to", retryable=True, kind="volume")] * 2
    write = Client.write_extents

    def refuse(self: Client, *args: Any) -> Any:
        if answers:
            raise answers.pop()
        return write(self, *args)

    monkeypatch.setattr(Client, "write_extents", refuse)
    service = ImageService(sample(MIB))
    driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    assert naps == [1.0, 1.0]
    check_same(content_of(client, volume, MIB), service.content)
    driver.delete_volume(volume)


def test_formats_that_the_appliance_does_not_read(
    world: World, driver: AshlarDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for name in ("copy_image_to_volume", "copy_volume_to_image"):
        monkeypatch.setattr(
            cinder_driver.BaseVD, name, lambda *_args, **_kwargs: asked.append(_args)
        )
    for meta in ({"disk_format": "vdi"}, {"container_format": "compressed"}):
        service = ImageService(b"x", **meta)
        volume = world.volume()
        driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
        driver.copy_volume_to_image(world.context, volume, service, service.meta)
    assert len(asked) == 4


@pytest.mark.parametrize("in_use", [False, True], ids=["available", "in-use"])
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_volume_becomes_an_image(
    world: World,
    driver: AshlarDriver,
    client: Client,
    connector: Any,
    tmp_path: Path,
    image_format: str,
    in_use: bool,
) -> None:
    content = sample(MIB)
    volume = world.volume()
    driver.create_volume(volume)
    service = ImageService(content)
    driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    if in_use:
        driver.initialize_connection(volume, connector("alpha"))
        # Left by an upload that was cut short.
        still = ids.still_id(uuid.UUID(volume.id))
        client.create_snapshot(still, {"name": "left", "volume": uuid.UUID(volume.id)})
    meta = service.meta | {"disk_format": image_format}
    driver.copy_volume_to_image(world.context, volume, service, meta)
    stored = service.stored
    if image_format == "qcow2":
        out, raw = tmp_path / "out", tmp_path / "back"
        out.write_bytes(stored)
        subprocess.run(["qemu-img", "convert", "-O", "raw", out, raw], check=True)
        assert raw.stat().st_size == GIB
        with raw.open("rb") as file:
            check_same(file.read(len(content)), content)
            check_same(file.read(MIB), bytes(MIB))
        assert os.stat(out).st_size < 4 * MIB
    else:
        assert len(stored) == GIB
        check_same(stored.rstrip(b"\0"), content)
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_copies_keep_to_their_limit(
    world: World, tmp_path: Path, image_format: str, traffic: list[str]
) -> None:
    driver = world.driver(volume_copy_bps_limit=MIB)
    content = random.Random(9).randbytes(4 * MIB)
    image = content if image_format == "raw" else qcow2(tmp_path, content)
    service = ImageService(image, disk_format=image_format)
    volume = world.volume()
    driver.create_volume(volume)
    begin = time.monotonic()
    driver.copy_image_to_volume(world.context, volume, service, service.meta["id"])
    written = time.monotonic()
    assert written - begin > 2
    assert traffic[-1].endswith(f"bandwidth={MIB}")
    driver.copy_volume_to_image(world.context, volume, service, service.meta)
    assert time.monotonic() - written > 2
    assert traffic[-1].endswith(f"bandwidth={MIB}")
    driver.delete_volume(volume)


def image_volume(world: World, driver: AshlarDriver, **settings: Any) -> Any:
    """A volume that an image is on."""
    kept = world.volume(**settings)
    driver.create_volume(kept)
    return kept


OWNER = "the-owner"


@pytest.mark.parametrize("where", ["cinder://{}", "cinder://store/{}", "direct"])
def test_an_image_on_a_volume_is_cloned(
    world: World, client: Client, traffic: list[str], where: str
) -> None:
    cfg.CONF.set_override("allowed_direct_url_schemes", ["cinder"])
    iscsi, nvme = world.driver(), world.driver(AshlarNVMeDriver)
    # Of the other transport's backend, which Cinder itself does not look at.
    kept = image_volume(world, iscsi, host="h@other#tank", project_id=OWNER)
    url = where.format(kept.id)
    location = (f"cinder://{kept.id}", None) if where == "direct" else (None, [{"url": url}])
    service = ImageService(owner=OWNER)
    volume = world.volume(size=2)
    traffic.clear()
    cloned = nvme.clone_image(world.context, volume, location, service.meta, service)
    assert cloned == (None, True)
    assert len(traffic) == 1
    there = client.volume(uuid.UUID(volume.id))
    assert there["parent"] == {"volume": uuid.UUID(kept.id).bytes}
    assert there["size"] == 2 * GIB
    for one in (volume, kept):
        nvme.delete_volume(one)


def test_an_image_of_somebody_else_s_volume_is_not_cloned(
    world: World, driver: AshlarDriver, traffic: list[str]
) -> None:
    cfg.CONF.set_override("allowed_direct_url_schemes", ["cinder"])
    kept = image_volume(world, driver, project_id="another")
    location = (None, [{"url": f"cinder://{kept.id}"}])
    service = ImageService(owner=OWNER)
    volume = world.volume()

    def cloned() -> bool:
        return driver.clone_image(world.context, volume, location, service.meta, service)[1]

    traffic.clear()
    assert not cloned()
    assert not traffic
    # Of the image service's own project, which notes whose image it is.
    kept.metadata = {"image_owner": OWNER}
    kept.save()
    assert cloned()
    for one in (volume, kept):
        driver.delete_volume(one)


def test_cinder_s_cache_of_images_is_of_clones(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Cinder's looks at images are those of root, which its test case does not allow.
    looked = image_utils.qemu_img_info
    plainly = {"run_as_root": False, "img_format": "raw"}
    monkeypatch.setattr(image_utils, "qemu_img_info", lambda path, **_: looked(path, **plainly))
    for whose in ("project", "user"):
        cfg.CONF.set_override(f"cinder_internal_tenant_{whose}_id", str(uuid.uuid4()))
    then = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
    images = [ImageService(sample(MIB), updated_at=then) for _ in range(2)]
    by_id = {image.meta["id"]: image for image in images}
    monkeypatch.setattr(
        glance, "get_remote_image_service", lambda _, wanted: (by_id[wanted], wanted)
    )
    manager = world.manager(image_volume_cache_enabled=True, image_volume_cache_max_count=1)

    def volume_of(image: ImageService) -> Any:
        volume = world.volume(host=f"{manager.host}#tank", status="creating")
        manager.create_volume(world.context, volume, {"image_id": image.meta["id"]}, {}, False)
        return volume

    def kept() -> dict[str, Any]:
        """What is kept of images, by their ids."""
        volumes = objects.VolumeList.get_all(world.context)
        named = [one for one in volumes if one.display_name.startswith("image-")]
        return {one.display_name.removeprefix("image-"): one for one in named}

    first, second, third = [volume_of(image) for image in (images[0], images[0], images[1])]
    old, new = [kept()[image.meta["id"]] for image in images]
    for volume, parent in ((old, first), (second, old), (new, third)):
        there = client.volume(uuid.UUID(volume.id))
        assert there["parent"] == {"volume": uuid.UUID(parent.id).bytes}
    # There is room for one.
    assert (old.status, new.status) == ("deleting", "available")
    for volume in (old, new, first, second, third):
        manager.delete_volume(world.context, volume)


@pytest.mark.parametrize(
    ("why", "location", "meta"),
    [
        ("no leave", "cinder://{}", {}),
        ("no location", None, {}),
        ("elsewhere", "rbd://cluster/pool/image/snap", {}),
        ("no volume", "cinder://store/", {}),
        ("no uuid", f"cinder://{'-' * 36}", {}),
        ("unknown", "cinder://5c6c8f0e-9a7b-4c53-8a45-0c1b3b0a9d11", {}),
        ("no disk", "cinder://{}", {"disk_format": "qcow2"}),
        ("compressed", "cinder://{}", {"container_format": "compressed"}),
        ("other pool", "cinder://{}", {}),
        ("smaller", "cinder://{}", {}),
        ("encrypted", "cinder://{}", {}),
        ("not made", "cinder://{}", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_that_are_not_cloned_are_copied(
    world: World, driver: AshlarDriver, client: Client, why: str, location: Any, meta: Any
) -> None:
    schemes = [] if why == "no leave" else ["cinder"]
    cfg.CONF.set_override("allowed_direct_url_schemes", schemes)
    kept = world.volume(
        pool="second" if why == "other pool" else "tank",
        size=2 if why == "smaller" else 1,
        project_id=OWNER,
        encryption_key_id=str(uuid.uuid4()) if why == "encrypted" else None,
    )
    if why != "not made":
        driver.create_volume(kept)
    service = ImageService(owner=OWNER, **meta)
    where = (None, [{"url": location.format(kept.id)}]) if location else None
    volume = world.volume()
    cloned = driver.clone_image(world.context, volume, where, service.meta, service)
    assert cloned == (None, False)
    driver.delete_volume(kept)
    assert not list(client.volumes())


@pytest.mark.parametrize(
    ("code", "copied"),
    [
        ("not-found", True),
        ("busy", True),
        ("in-use", True),
        ("invalid-field", True),
        ("no-space", False),
        ("kernel-failed", False),
        ("frozen", False),
        (None, False),
    ],
)
def test_an_image_is_copied_only_if_that_may_help(
    world: World,
    driver: AshlarDriver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str | None,
    copied: bool,
) -> None:
    cfg.CONF.set_override("allowed_direct_url_schemes", ["cinder"])
    kept = image_volume(world, driver, project_id=OWNER)
    location = (None, [{"url": f"cinder://{kept.id}"}])
    service = ImageService(owner=OWNER)
    volume = world.volume()
    error = Problem(code, "why", kind="volume") if code else UnreachableError("why")

    def refuse(self: Client, *args: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Client, "create_volume", refuse)

        def clone() -> Any:
            return driver.clone_image(world.context, volume, location, service.meta, service)

        if copied:
            assert clone() == (None, False)
        else:
            with pytest.raises(exception.VolumeBackendAPIException, match="why"):
                clone()
    assert (f"is not cloned from volume {kept.id}" in caplog.text) == copied
    driver.delete_volume(kept)


def test_a_stream_that_is_cut_is_noticed() -> None:
    with pytest.raises(UnreachableError):
        ExtentsReader(io.BytesIO(b"\0" * 10)).read(1)
