"""Cinder's public REST API, as an operator's tools use it."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import urllib3

PROJECT = "4f1a8e3ac7c64d2e9a4b0c6f1f2d3e4a"
OTHER_PROJECT = "9b7c5d3f1e2a4c6b8d0f2e4a6c8b0d1f"
VERSION = "volume 3.70"

#: How long anything may take, on a busy machine.
PATIENCE = 90


class CinderError(Exception):
    """A refusal."""


class CinderApi:
    """As the administrator of a project."""

    def __init__(self, port: int, project: str = PROJECT) -> None:
        self._base = f"http://127.0.0.1:{port}/v3/{project}"
        self._http = urllib3.PoolManager()
        self._headers = {
            "content-type": "application/json",
            "openstack-api-version": VERSION,
            "x-auth-token": f"admin:{project}",
            # Who deletes attachments is Nova.
            "x-service-roles": "service",
        }

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers."""
        data = None if body is None else json.dumps(body)
        answer = self._http.request(method, self._base + path, body=data, headers=self._headers)
        if answer.status >= 300:
            raise CinderError(f"{method} {path}: {answer.status} {answer.data.decode()[:500]}")
        return json.loads(answer.data) if answer.data else None

    def make(self, kind: str, wanted: str = "available", path: str = "", **what: Any) -> Any:
        """Makes something and waits until it is there."""
        made = self.ask("POST", path or f"/{kind}s", {kind.replace("-", "_"): what})
        made = made[kind.replace("-", "_")]
        return self.until(kind, made["id"], wanted)

    def show(self, kind: str, wanted: str) -> Any:
        """It as it is now."""
        return self.ask("GET", f"/{kind}s/{wanted}")[kind.replace("-", "_")]

    def until(self, kind: str, wanted: str, status: str) -> Any:
        """Waits until it has a status; that it does not end in error."""
        begin = time.monotonic()
        while True:
            found = self.show(kind, wanted)
            if found["status"] == status:
                return found
            if "error" in found["status"] or time.monotonic() - begin > PATIENCE:
                raise CinderError(f"{kind} {wanted} is {found['status']}, not {status}")
            time.sleep(0.1)

    def act(self, volume: str, action: str, **what: Any) -> Any:
        """An action upon a volume."""
        return self.ask("POST", f"/volumes/{volume}/action", {action: what or None})

    def remove(self, kind: str, wanted: str) -> None:
        """Deletes it and waits until it is gone."""
        self.ask("DELETE", f"/{kind}s/{wanted}")
        self.gone(kind, wanted)

    def gone(self, kind: str, wanted: str, even_in: str = "") -> None:
        """Waits until it is gone; that it has no other status of an error than one."""
        begin = time.monotonic()
        while True:
            try:
                found = self.show(kind, wanted)
            except CinderError as error:
                if ": 404 " in str(error):
                    return
                raise
            failed = "error" in found["status"] and found["status"] != even_in
            if failed or time.monotonic() - begin > PATIENCE:
                raise CinderError(f"{kind} {wanted} is {found['status']}, not gone")
            time.sleep(0.1)

    def attach(self, volume: str, connector: dict[str, Any]) -> Any:
        """An attachment of an instance on a host, as Nova makes it."""
        asked = {"volume_uuid": volume, "instance_uuid": str(uuid.uuid4())}
        made = self.ask("POST", "/attachments", {"attachment": asked})["attachment"]
        path = f"/attachments/{made['id']}"
        made = self.ask("PUT", path, {"attachment": {"connector": connector}})["attachment"]
        self.ask("POST", f"{path}/action", {"os-complete": made["id"]})
        return made

    def detach(self, attachment: str) -> None:
        """Ends an attachment."""
        self.ask("DELETE", f"/attachments/{attachment}")
