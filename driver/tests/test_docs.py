"""README.md says what is so."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from ashlar_cinder import options, specs
from ashlar_cinder.iscsi import AshlarISCSIDriver
from tests import generic, reference
from tests.test_interface import ABSENT, INHERITED, OLDER, OWN

SUPPORT = Path(__file__).parents[1] / "SUPPORT.md"


def test_the_reference_is_of_the_options() -> None:
    _, table, _ = reference.parts()
    assert table == reference.reference(), "python -m tests.reference makes it anew"
    _, table, _ = reference.parts(reference.SUPPORT)
    assert table == generic.table(), "python -m tests.reference makes it anew"


def test_the_example_has_options_that_are_there_and_ten_lines() -> None:
    before, _, _ = reference.parts()
    example = re.search(r"```ini\n(.*?)```", before, re.DOTALL)
    assert example
    lines = [line.strip() for line in example[1].splitlines() if line.strip()]
    assert len(lines) <= 10
    parsed = configparser.ConfigParser()
    parsed.read_string("\n".join(lines))
    known = {option.name for option in AshlarISCSIDriver.get_driver_options()}
    known |= {"volume_driver", "volume_backend_name"}
    assert set(parsed["ashlar"]) <= known
    module, _, name = parsed["ashlar"]["volume_driver"].rpartition(".")
    assert (module, name) == (AshlarISCSIDriver.__module__, AshlarISCSIDriver.__name__)


def test_types_are_described() -> None:
    _, _, after = reference.parts()
    for key in (*specs.QOS_KEYS, *specs.PROVISIONING_SPECS, specs.PER_GB):
        assert f"`{key}`" in after


def test_what_is_ignored_is_not_offered() -> None:
    offered = {option.name for option in AshlarISCSIDriver.get_driver_options()}
    assert not offered & set(options.NOT_OURS)


def rows(heading: str) -> list[list[str]]:
    """The rows of a table of SUPPORT.md, without its head."""
    part = SUPPORT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_method_is_in_the_support_page_as_what_it_is() -> None:
    found: dict[str, set[str]] = {}
    for _, methods, whose, _, _ in rows("Methods"):
        for name in re.findall(r"`(\w+)`", methods):
            found.setdefault(name, set()).add(whose.split(";")[0])
    wanted = dict.fromkeys(OWN, "own") | dict.fromkeys(INHERITED, "Cinder's")
    wanted |= dict.fromkeys([*OLDER, *ABSENT], "absent")
    assert found == {name: {whose} for name, whose in wanted.items()}


def test_what_the_support_page_names_is_a_test() -> None:
    tests = Path(__file__).parent
    headings = re.findall(r"^## (.*)$", SUPPORT.read_text(), re.MULTILINE)
    assert len(headings) > 3
    for heading in headings:
        assert rows(heading)
        for row in rows(heading):
            shown = re.findall(r"`(test_\w+\.py): (test_\w+)`", row[-1])
            assert shown or row[-1].startswith("not tested"), row
            for file, name in shown:
                assert f"\ndef {name}(" in (tests / file).read_text(), f"{file}: {name}"
