"""Backups: whole or refused."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.datastore.api import Entry, Listing
from calico.datastore.backup_file import BadBackup, dump, looks_like_one, parse
from support.contents import CLUSTER, contents

NOW = "2026-03-04T05:06:07Z"
PATHS = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: f"/calico/{text}")


def file_of(content: dict[str, bytes]) -> bytes:
    listing = Listing(7, tuple(Entry(path, value, 3) for path, value in sorted(content.items())))
    return dump(listing, time=NOW, store="/a.db")


@given(st.one_of(contents, st.dictionaries(PATHS, st.binary())))
def test_every_byte_comes_back(content: dict[str, bytes]) -> None:
    """Whatever the paths and values are."""
    saved = parse(file_of(content), "file")
    assert saved.content == content


def test_the_header_says_what_it_is() -> None:
    """When, where, at which revision, of which cluster, and how much of each kind."""
    path, value = CLUSTER
    content = file_of({path: value, "/calico/x": b"\xff", "/calico/y": b""})
    saved = parse(content, "file")
    assert saved[1:] == (NOW, "/a.db", 7, "deadbeef")
    assert dict(saved.kinds) == {"other keys": 2, "ClusterInformation": 1}
    header = json.loads(gzip.decompress(content).splitlines()[0])
    assert (header["format"], header["version"], header["entries"]) == ("calico-backup", 1, 3)
    assert looks_like_one(content)
    assert not looks_like_one(b"kind: Tier")


def test_a_decompressed_backup_is_one() -> None:
    """zcat is no harm."""
    text = gzip.decompress(file_of({"/calico/x": b"1"}))
    assert parse(text, "file").content == {"/calico/x": b"1"}
    assert looks_like_one(text)


def test_every_cut_and_every_changed_byte_is_noticed() -> None:
    """Compressed or not; nothing of it is used."""
    content = file_of({"/calico/x": b"1", "/calico/y": b"\xff"})
    for whole in (content, gzip.decompress(content)):
        for position in range(len(whole)):
            if position < len(whole) - 1:  # the last line is whole without its end
                with pytest.raises(BadBackup):
                    parse(whole[:position], "file")
            if whole is content and position in range(
                3, 10
            ):  # gzip's flags, time and system, which say nothing here
                continue
            broken = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
            try:
                assert parse(broken, "file").content == {"/calico/x": b"1", "/calico/y": b"\xff"}
            except BadBackup:
                continue
            assert position >= len(whole) - 1  # the last line's end


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "file is no backup"),
        (b"kind: Tier\n", "file is no backup"),
        (b"[]\n", "file is no backup"),
        (b'{"format":"calico-backup","version":2}\n', "another version"),
        (b'{"format":"calico-backup","version":1}\n{"sha256":"x"}\n', "its checksum is wrong"),
        (b'{"format":"calico-backup","version":1}\n{"sha2', "cut off at line 2"),
        (b"\x1f\x8bzz", "damaged or cut off"),
    ],
)
def test_what_is_no_backup_is_refused_with_the_reason(content: bytes, sentence: str) -> None:
    """And with the file's name."""
    with pytest.raises(BadBackup, match=sentence):
        parse(content, "file")
