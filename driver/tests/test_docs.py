"""README.md says what is so."""

from __future__ import annotations

import configparser
import re

from ashlar_cinder import options, specs
from ashlar_cinder.iscsi import AshlarISCSIDriver
from tests import reference


def test_the_reference_is_of_the_options() -> None:
    _, table, _ = reference.parts()
    assert table == reference.reference(), "python -m tests.reference makes it anew"


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
