"""What labs remember of themselves, and who may touch it."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.lab import scenario
from calico.lab.state import LabDirectory, NotBegun, State, Unreadable, labs
from calico.lab.topology import regular


def built(root: Path, name: str) -> LabDirectory:
    directory = LabDirectory(root, name)
    directory.write(
        State(name=name, phase="up", created="now", backend="nftables", topology=regular(1, 1, 1))
    )
    return directory


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc", "a/b", "A", "a-b", "1a", "a" * 17])
def test_no_name_leads_out_of_the_directory_of_all_labs(tmp_path: Path, name: str) -> None:
    """What is no name of a lab is refused before anything is looked at, let alone removed."""
    with pytest.raises(NotBegun, match="cannot name a lab"):
        LabDirectory(tmp_path / "lab", name)


def test_only_one_command_at_a_time_builds_or_removes_a_lab(tmp_path: Path) -> None:
    """The second is refused, and leaves the first one's directory alone."""
    directory = LabDirectory(tmp_path / "run" / "lab", "one")

    with directory.locked():
        with pytest.raises(NotBegun, match="another command"), directory.locked():
            pytest.fail("locked twice")
        assert directory.exists()
    assert not (tmp_path / "run").exists()

    with directory.locked():
        assert directory.exists()


def test_a_damaged_record_is_named_and_keeps_no_lab_from_being_removed(tmp_path: Path) -> None:
    """The record of another version, say: looking fails with what to do, removing works, other labs are not concerned."""
    root = tmp_path / "run" / "lab"
    damaged, sound = built(root, "tdamaged"), built(root, "tsound")
    (damaged.path / "state.json").write_text("{")

    with pytest.raises(Unreadable, match="lab down --name tdamaged"):
        damaged.read()
    with pytest.raises(NotBegun, match="lab down --name tdamaged"):
        scenario.begin(damaged, regular(1, 1, 1), "nftables", ())
    assert labs(root) == ("tdamaged", "tsound")

    scenario.down(damaged, lambda _line: None)

    assert labs(root) == ("tsound",)
    assert sound.read() is not None
