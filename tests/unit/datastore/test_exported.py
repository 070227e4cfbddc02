"""Exports: readable, whole, and Calico's own are read too."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given

from calico.datastore.exported import BadExport, dump, parse
from calico.datastore.transfer import canonical
from calico.model.errors import InvalidResources
from support.contents import CLUSTER, locked_contents

NOW = "2026-03-04T05:06:07Z"


def exported(content: dict[str, bytes]) -> str:
    return "".join(dump(content, time=NOW, store="the store"))


def canonicals(content: dict[str, bytes]) -> dict[str, bytes]:
    return {path: canonical(value) for path, value in content.items()}


@given(locked_contents)
def test_nothing_is_lost(content: dict[str, bytes]) -> None:
    """Whatever is stored, known or not, sensible or not, comes back and says the same."""
    read = parse(exported(content), "file", stamp=NOW)
    assert (canonicals(read.content), read.ours) == (canonicals(content), True)


TIER = (
    "/calico/resources/v3/projectcalico.org/tiers/t",
    b'{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"t"},"spec":{"order":1.5}}',
)
POOL = (
    "/calico/resources/v3/projectcalico.org/ippools/p",
    b'{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/8"}}',
)
HANDLE = ("/calico/ipam/v2/handle/h", b'{"block":{"10.0.0.0/26":1},"deleted":false}')
AFFINITY = ("/calico/ipam/v2/host/n/ipv4/block/10.0.0.0-26", b"")
WHOLE = dict([TIER, POOL, HANDLE, AFFINITY, CLUSTER, ("/calico/odd", b"\xff")])


def test_an_export_is_readable() -> None:
    """Resources in YAML in Calico's order, the cluster and IPAM in JSON, and what is neither at the end."""
    text = exported(WHOLE)
    assert (
        re.sub(r'"sha256": "[0-9a-f]{64}"', '"sha256": "..."', text)
        == """\
# Everything in the store at 2026-03-04T05:06:07Z; to be read by: calicoctl datastore migrate import -f FILE
# IPPool: 1
---
kind: IPPool
apiVersion: projectcalico.org/v3
metadata:
  name: p
spec:
  cidr: 10.0.0.0/8
---
# Tier: 1
---
kind: Tier
apiVersion: projectcalico.org/v3
metadata:
  name: t
spec:
  order: 1.5
---
===
{
  "kind": "ClusterInformation",
  "apiVersion": "projectcalico.org/v3",
  "metadata": {
    "name": "default",
    "uid": "u",
    "creationTimestamp": "2026-01-02T03:04:05Z"
  },
  "spec": {
    "clusterGUID": "deadbeef",
    "datastoreReady": false
  }
}
===
{
  "block_affinities": [],
  "blocks": [],
  "handles": [
    {
      "Key": "/calico/ipam/v2/handle/h",
      "Value": {
        "block": {
          "10.0.0.0/26": 1
        },
        "deleted": false
      },
      "TTL": 0
    }
  ],
  "exact": {
    "version": 1,
    "entries": 6,
    "sha256": "...",
    "other": [
      {
        "path": "/calico/ipam/v2/host/n/ipv4/block/10.0.0.0-26",
        "text": ""
      },
      {
        "path": "/calico/odd",
        "base64": "/w=="
      }
    ]
  }
}
"""
    )


def test_what_was_edited_is_refused_unless_it_is_meant() -> None:
    """A checksum tells; whoever edited says so."""
    text = exported(WHOLE).replace("order: 1.5", "order: 2")
    with pytest.raises(BadExport, match=r"file was changed since it was made.*--allow-changed"):
        parse(text, "file", stamp=NOW)
    read = parse(text, "file", stamp=NOW, changed=True).content
    assert json.loads(read[TIER[0]])["spec"] == {"order": 2}


def test_every_cut_is_noticed() -> None:
    """Wherever the file ends too early, nothing of it is used."""
    text = exported(WHOLE)
    for end in range(0, len(text) - 2, 7):
        with pytest.raises(BadExport):
            parse(text[:end], "file", stamp=NOW)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("kind: Tier", "kind: [", r"file:\d+:\d+: "),
        ("kind: Tier", "kind: Bier", "a document is no resource"),
        ("  order: 1.5\n", "  order: 1.5\n---\n- 1\n", "a document is no resource"),
        ('"version": 1', '"version": 2', "made by another version"),
        ('"sha256"', '"sha"', "not as it was written"),
        ('"exact": {', '"exact": {"x": [', "the last part is no JSON"),
    ],
)
def test_what_is_broken_is_named(before: str, after: str, sentence: str) -> None:
    """With the line where there is one."""
    text = exported(WHOLE)
    assert before in text
    with pytest.raises(BadExport, match=sentence):
        parse(text.replace(before, after), "file", stamp=NOW)


# --- Calico's exports --------------------------------------------------------------------------------

CALICOS = """\
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata:
    creationTimestamp: null
    name: pool-1
  spec:
    blockSize: 26
    cidr: 10.0.0.0/16
    ipipMode: Never
    nodeSelector: all()
    vxlanMode: Never
kind: IPPoolList
metadata:
  resourceVersion: "123"
---
apiVersion: projectcalico.org/v3
items: []
kind: BGPPeerList
metadata:
  resourceVersion: "124"
---
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: NetworkPolicy
  metadata:
    creationTimestamp: null
    name: allow-web
    namespace: shop
  spec:
    ingress:
    - action: Allow
      destination: {}
      source:
        selector: app == 'web' && tier == 'x'
    order: 10
    selector: all()
    types:
    - Ingress
kind: NetworkPolicyList
metadata:
  resourceVersion: "125"
---
===
{
  "kind": "ClusterInformation",
  "apiVersion": "projectcalico.org/v3",
  "metadata": {
    "name": "default",
    "uid": "5b0a",
    "creationTimestamp": "2021-01-02T03:04:05Z"
  },
  "spec": {
    "clusterGUID": "cafe",
    "clusterType": "k8s",
    "calicoVersion": "v3.30.1",
    "datastoreReady": false
  }
}
===
{
  "block_affinities": [
    {"Key": "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30", "Value": {"state": "confirmed", "deleted": false}, "TTL": 0}
  ],
  "blocks": [
    {
      "Key": "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30",
      "Value": {
        "cidr": "10.0.0.0/30", "affinity": "host:n1", "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
        "attributes": [{"handle_id": "h", "secondary": {"node": "n1"}}], "deleted": false, "sequenceNumber": 7
      },
      "TTL": 0
    }
  ],
  "handles": [{"Key": "/calico/ipam/v2/handle/h", "Value": {"block": {"10.0.0.0/30": 1}, "deleted": false}, "TTL": 0}],
  "config": {"Key": "/calico/ipam/v2/config", "Value": {"strict_affinity": true}, "TTL": 0}
}
"""


def test_an_export_of_calico_is_read() -> None:
    """Lists by kind, without identity; IPAM exactly."""
    read = parse(CALICOS, "file", stamp=NOW)
    assert not read.ours
    stored = {path: json.loads(value) for path, value in read.content.items()}
    assert [*stored] == [
        CLUSTER[0],
        "/calico/resources/v3/projectcalico.org/ippools/pool-1",
        "/calico/resources/v3/projectcalico.org/networkpolicies/shop/allow-web",
        "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30",
        "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30",
        "/calico/ipam/v2/handle/h",
        "/calico/ipam/v2/config",
    ]
    records = json.loads(CALICOS.split("===\n")[2])
    assert stored["/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30"] == records["blocks"][0]["Value"]
    policy = stored["/calico/resources/v3/projectcalico.org/networkpolicies/shop/allow-web"]
    assert policy["metadata"]["creationTimestamp"] == "2021-01-02T03:04:05Z"
    assert policy["spec"]["ingress"][0]["source"]["selector"] == "app == 'web' && tier == 'x'"


def test_identities_of_calicos_resources_are_the_same_at_each_reading() -> None:
    """So an import that was interrupted recognises what it stored."""
    once, again = (parse(CALICOS, "file", stamp=stamp).content for stamp in (NOW, "2027-01-01T00:00:00Z"))
    assert once == again
    uids = {json.loads(value).get("metadata", {}).get("uid") for path, value in once.items() if "v3" in path}
    assert len(uids) == 3


def test_an_export_of_calico_is_checked() -> None:
    """Whatever would not be applied is not imported: the line is named."""
    with pytest.raises(InvalidResources, match=r"file:\d+:\d+: IPPool/pool-1: spec.cidr"):
        parse(CALICOS.replace("cidr: 10.0.0.0/16", "cidr: ten"), "file", stamp=NOW)
    with pytest.raises(BadExport, match="IPAMBlock"):
        parse(CALICOS.replace('"unallocated": [1, 2, 3]', '"unallocated": 1'), "file", stamp=NOW)
    with pytest.raises(BadExport, match="is no key of IPAM"):
        parse(CALICOS.replace("/calico/ipam/v2/handle/h", "/calico/elsewhere"), "file", stamp=NOW)
