"""Passwords of sessions, from files that only root can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.bgp.secrets import read
from calico.model.bgp import SecretKeyRef

RACK = SecretKeyRef(name="bgp", key="rack")


def keep(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    """The file of RACK's password."""
    file = directory / "bgp" / "rack"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"s3cret\r\n"])
def test_password_is_the_file_without_its_line_end(tmp_path: Path, content: bytes) -> None:
    """The key of a secret is a file in the directory of the secret's name."""
    keep(tmp_path, content)

    assert read([RACK], tmp_path) == ({RACK: "s3cret"}, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o610])
def test_password_that_others_can_get_at_is_not_used(tmp_path: Path, mode: int) -> None:
    """A file that is open to others is refused, with what to do."""
    keep(tmp_path, b"s3cret", mode)

    known, missing = read([RACK], tmp_path)

    assert known == {}
    assert "chmod 600" in missing[RACK]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no password of 1 to 80"),
        (b"\n", "no password of 1 to 80"),
        (b"x" * 81, "no password of 1 to 80"),
        (b'a"b', "a quote"),
        (b"a\nb", "control character"),
        (b"\xff", "no text"),
    ],
)
def test_what_is_no_password(tmp_path: Path, content: bytes, reason: str) -> None:
    """What TCP or BIRD cannot take is not used, and the sentence says why without the content."""
    keep(tmp_path, content)

    assert reason in read([RACK], tmp_path).missing[RACK]


def test_missing_file_and_links_are_not_used(tmp_path: Path) -> None:
    """A file that is not there, a link, and a directory give no password."""
    assert "cannot be read" in read([RACK], tmp_path).missing[RACK]
    file = keep(tmp_path, b"s3cret")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "cannot be read" in read([RACK], tmp_path).missing[RACK]
    file.unlink()
    file.mkdir()
    assert "is no file" in read([RACK], tmp_path).missing[RACK]


@pytest.mark.parametrize(("name", "key"), [("..", "x"), ("a/b", "x"), ("a", "../x"), ("", "x"), ("a", "\0")])
def test_names_stay_in_the_directory(tmp_path: Path, name: str, key: str) -> None:
    """A reference cannot name a file elsewhere."""
    reference = SecretKeyRef(name=name, key=key)

    assert "is no name" in read([reference], tmp_path).missing[reference]
