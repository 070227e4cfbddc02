"""Columns that people choose, in calicoctl's way and in kubectl's."""

from __future__ import annotations

import click
import pytest

from calico.cli import printers
from calico.cli.columns import Chosen
from calico.model import codec

SET = codec.load("""\
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: web, namespace: shop, labels: {app: web, a.b/c: d}}
spec: {nets: [10.0.0.1, 10.0.0.2]}
""")[0]
POLICY = codec.load("""\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  order: 10
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, "90:99"]}}, {action: Deny}]
""")[0]


def _cells(resource, text: str) -> list[str]:
    columns = Chosen.of(text).columns_of(type(resource))
    return printers.rows_of([resource], columns)[1]


CASES = {
    "NAME,NETS": ["web", "10.0.0.1,10.0.0.2"],
    "NAMESPACE,name": ["shop", "web"],
    "NAME:.metadata.name,N:metadata.namespace": ["web", "shop"],
    "FIRST:.spec.nets[0],LAST:.spec.nets[-1],ALL:.spec.nets[*],NONE:.spec.nets[9]": [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.1,10.0.0.2",
        "<none>",
    ],
    "A:.metadata.labels.app,B:.metadata.labels.none": ["web", "<none>"],
    "A:.metadata.labels.a\\.b/c,B:.metadata.labels['a.b/c'],C:{.metadata.labels[\"a.b/c\"]}": [
        "d",
        "d",
        "d",
    ],
    "L:.metadata.labels,UID:.metadata.uid": ['{"app": "web", "a.b/c": "d"}', "<none>"],
}


@pytest.mark.parametrize("text", CASES)
def test_columns(text: str) -> None:
    """A heading of the kind's own table, or a heading and a path."""
    assert _cells(SET, text) == CASES[text]


def test_paths_go_into_every_entry_of_a_list() -> None:
    """Values of all rules stand in one cell; what is no plain value is JSON."""
    text = "ACTIONS:.spec.ingress[*].action,PORTS:.spec.ingress[*].destination.ports,ORDER:.spec.order,OFF:.spec.doNotTrack"
    assert _cells(POLICY, text) == ["Allow,Deny", '[[80, "90:99"], []]', "10", "false"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NAME,FOO", "known are NAMESPACE, NAME, NETS"),
        ("NAME:", "is no column"),
        ("NAME,,NETS", "is no column"),
        ("X:.spec.nets[", "is no path"),
        ("X:.spec.nests", "did you mean nets"),
        ("X:.metadata.name.first", "text has no fields"),
    ],
)
def test_what_is_no_column_is_said(text: str, words: str) -> None:
    """With what there is instead."""
    with pytest.raises(click.UsageError, match=words):
        _cells(SET, text)


def test_kinds_without_namespaces_have_no_such_column() -> None:
    """It would be empty in every row."""
    with pytest.raises(click.UsageError, match="known are NAME, TIER"):
        Chosen.of("NAMESPACE").columns_of(type(POLICY))
