"""Reports of checks, and what several of them agree on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from calico.ipam.audit import audit
from calico.ipam.report import BadReport, Leak, Leaks, agreed, as_data, parse
from calico.model.keys import Key
from support.ipam_pictures import GUID, SEQUENCE, Content, attribute, block, sound

GONE = attribute("h.gone", pod="old", namespace="shop", node="b", timestamp="2026-01-01")


def _leaking() -> Content:
    return sound().block(block("10.65.0.4/30", given={1: GONE})).handle("h.left", {}).cluster()


def _report(content: Content) -> bytes:
    return json.dumps(as_data(audit(content.picture()), version="1")).encode()


def test_a_report_has_what_calicos_has() -> None:
    """The same names, so that either program reads the other's; and the problems besides."""
    tree = json.loads(_report(_leaking()))
    content = _leaking()
    revision = content.entries["/calico/ipam/v2/handle/h.left"].revision
    assert {name: tree[name] for name in ("version", "clusterGUID", "datastoreLocked", "clusterType")} == {
        "version": "1",
        "clusterGUID": GUID,
        "datastoreLocked": True,
        "clusterType": "",
    }
    assert tree["clusterInformationRevision"] == str(len(content.entries))
    assert tree["allocations"]["10.65.0.5"] == [
        {
            "ip": "10.65.0.5",
            "handle": "h.gone",
            "sequenceNumber": SEQUENCE + 1,
            "pod": "old",
            "namespace": "shop",
            "node": "b",
            "creationTimestamp": "2026-01-01",
            "inUse": False,
            "borrowed": True,
            "owners": [],
        }
    ]
    assert tree["allocations"]["10.65.0.0"][0]["owners"] == ["Workload(shop/web)"]
    assert tree["leakedHandles"] == [{"ID": "h.left", "UID": None, "Revision": str(revision)}]
    assert tree["problemCount"] == 2
    assert tree["problems"]["handlesWithoutAddresses"][0]["subject"] == "h.left"


def test_a_report_of_calicos_is_read() -> None:
    """As its own program writes it: lists may be null, and parts may be missing."""
    tree: dict[str, Any] = {
        "version": "v3.30.0",
        "clusterGUID": GUID,
        "datastoreLocked": True,
        "clusterInformationRevision": "7",
        "clusterType": "k8s",
        "allocations": {
            "10.0.0.1": [
                {"ip": "10.0.0.1", "handle": "h", "sequenceNumber": 0, "inUse": False, "owners": None}
            ],
            "10.0.0.2": [{"ip": "10.0.0.2", "inUse": True, "owners": ["Node(a)"]}],
        },
        "leakedHandles": [{"ID": "l", "UID": None, "Revision": "9"}],
    }
    report = parse(json.dumps(tree).encode(), "file")
    assert (report.version, report.cluster_guid, report.cluster_revision) == ("v3.30.0", GUID, "7")
    assert agreed([report]) == Leaks({"10.0.0.1": Leak("10.0.0.1", "h", None)}, {"l": "9"})
    del tree["leakedHandles"]
    assert agreed([parse(json.dumps(tree).encode(), "file")]).handles == {}


def test_only_what_all_reports_call_leaked_may_be_freed() -> None:
    """The same assignment each time: one that was given anew between two reports is another."""
    first = _leaking()
    again = _leaking().block(
        block("10.65.0.4/30", given={1: GONE}, sequence_number_for_allocation={"1": SEQUENCE + 9})
    )
    used = _leaking().workload("late", "b", "10.65.0.5")

    def both(*contents: Content) -> Leaks:
        return agreed(parse(_report(each), "file") for each in contents)

    assert list(both(first, first).addresses) == ["10.65.0.5"]
    assert both(first, again).addresses == {}
    assert both(first, used).addresses == {}
    assert list(both(first, used).handles) == ["h.left"]


def test_a_handle_that_changed_between_reports_stays() -> None:
    """Somebody is at it."""
    changed = Content().node("x")
    changed.entries.update(_leaking().entries)
    path = "/calico/ipam/v2/handle/h.left"
    changed.entries[path] = changed.entries[path]._replace(revision=99)
    reports = [parse(_report(each), "file") for each in (_leaking(), changed)]
    assert agreed(reports).handles == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"allocations": 1}', b"\xff"])
def test_what_is_no_report_is_refused(content: bytes) -> None:
    """With the name of the file, and what to do."""
    with pytest.raises(BadReport, match=r"r\.json is no report of .*make it anew"):
        parse(content, "r.json")


def test_a_report_that_is_blind_says_so() -> None:
    """What could not be read may own what looks leaked."""
    assert not parse(_report(_leaking()), "f").blind
    broken = _leaking().add((Key("WorkloadEndpoint", "x", "shop"), b"{"))
    assert parse(_report(broken), "f").blind
