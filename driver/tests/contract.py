"""Everything that goes over the wire, held to ``protocol.cddl``."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

from cddl_verifier import Validator

PROTOCOL = Path(__file__).parents[2] / "agent" / "protocol"

# It tells of each success.
logging.getLogger("cddl_verifier").setLevel(logging.WARNING)

_ROUTE = re.compile(r'(Get|Put|Post|Delete)\s+"(/v1/[^"]+)"\s+([A-Za-z]+)\s+[A-Z]')


@functools.cache
def _contract() -> Validator:
    return Validator(PROTOCOL / "protocol.cddl")


@functools.cache
def _rules() -> frozenset[str]:
    text = (PROTOCOL / "protocol.cddl").read_text()
    return frozenset(re.findall(r"^([a-z-]+) =", text, re.MULTILINE))


@functools.cache
def _routes() -> list[tuple[str, re.Pattern[str], str]]:
    """Method, path and operation of each route, from the table that the agent is made of."""
    found = _ROUTE.findall((PROTOCOL / "src" / "route.rs").read_text())
    assert len(found) > 50
    return [
        (
            method.upper(),
            re.compile(re.escape(path).replace(r"\{id\}", "[^/]+")),
            re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(),
        )
        for method, path, name in found
    ]


def operation(method: str, path: str) -> str:
    """What is asked for."""
    bare = path.split("?", maxsplit=1)[0]
    for wanted, pattern, name in _routes():
        if wanted == method and pattern.fullmatch(bare):
            return name
    raise AssertionError(f"{method} {path} is no route")


def fits(rule: str, data: bytes) -> None:
    """Raises if bytes are not what a rule says."""
    result = _contract().validate(data, root_type=rule)
    found = [f"{one.path_text}: {one.message}" for one in result.diagnostics]
    assert result.valid, f"{rule}: {'; '.join(found)}"


def check_request(method: str, path: str, body: bytes | None) -> None:
    """Raises if the contract has no such request."""
    rule = f"{operation(method, path)}-request"
    if rule in _rules():
        assert body is not None, f"{method} {path} needs a body"
        fits(rule, body)
    else:
        assert not body, f"{method} {path} takes no body"


def check_reply(method: str, path: str, status: int, body: bytes) -> None:
    """Raises if the contract has no such answer."""
    name = operation(method, path)
    if status >= 400:
        fits("problem", body)
    elif status == 204:
        assert not body
    elif status == 202:
        fits("job", body)
    else:
        fits(f"{name}-reply", body)
