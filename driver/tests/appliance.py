"""The real agent and the real targetd on the model kernel, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any, cast

from ashlar_cinder.client import Client, Endpoint, Identity, Patience
from ashlar_cinder.client.transport import Request
from ashlar_cinder.client.wire import encode

ROOT = Path(__file__).parents[2]

#: Where the program is: ``cargo build --package ashlar-tests --bins`` makes it.
VARIABLE = "ASHLAR_TEST_APPLIANCE"

POOLS = {"tank": "serial-DISK0", "second": "serial-DISK1"}


class Appliance:
    """One that was just switched on, with a pool on each of its two disks."""

    def __init__(self) -> None:
        default = ROOT / "target" / "debug" / "appliance"
        program = Path(os.environ.get(VARIABLE, default))
        assert program.is_file(), f"{program} is missing: cargo build --package ashlar-tests --bins"
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        where = json.loads(self._line())
        self.endpoint: str = where["endpoint"]
        self.pki = Path(where["pki"])
        self.pools: dict[str, uuid.UUID] = {}
        admin = self.client("admin")
        for name, disk in POOLS.items():
            pool = uuid.uuid4()
            body = encode({"name": name, "disks": [disk]})
            admin._transport.exchange(Request("PUT", f"/v1/pools/{pool}", body))
            self.pools[name] = pool
        admin.close()

    def identity(self, name: str = "operator") -> Identity:
        return Identity(
            str(self.pki / f"{name}.pem"), str(self.pki / f"{name}.key"), str(self.pki / "ca.pem")
        )

    def client(self, name: str = "operator", patience: float = 30.0) -> Client:
        return Client(
            Endpoint.parse(self.endpoint), self.identity(name), patience=Patience(patience)
        )

    def order(self, command: str) -> str:
        """Has something happen to it, and waits until it has."""
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._line()

    def kernel(self) -> list[str]:
        """What the kernel has."""
        return cast("list[str]", json.loads(self.order("kernel")))

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the appliance has ended"
        return line.strip()

    def empty(self, client: Client) -> dict[str, Any]:
        """What is left on it but pools and hosts."""
        return {
            "volumes": list(client.volumes()),
            "snapshots": list(client.snapshots()),
            "connections": list(client.connections()),
        }
