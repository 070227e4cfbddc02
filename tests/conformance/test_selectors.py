"""Selectors against cases that other implementations agreed on."""

import json
from pathlib import Path

import pytest

from calico.model.errors import SelectorError
from calico.model.selector import parse

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "selectors"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here")


def rows(name):
    path = CASES / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [pytest.param(json.loads(line), id=f"{name}-{number}") for number, line in enumerate(lines, 1)]


@pytest.mark.parametrize("row", rows("evaluate"))
def test_evaluates(row):
    """A selector matches the label sets that it matches elsewhere."""
    assert parse(row["selector"]).matches(row["labels"]) is row["expected"]


@pytest.mark.parametrize("row", rows("invalid"))
def test_refuses(row):
    """What is refused elsewhere is refused here."""
    with pytest.raises(SelectorError):
        parse(row["selector"])


@pytest.mark.parametrize("row", rows("canonical"))
def test_canonical(row):
    """Canonical text and identity are those of elsewhere."""
    selector = parse(row["selector"])

    assert (str(selector), selector.uid) == (row["canonical"], row["uid"])
