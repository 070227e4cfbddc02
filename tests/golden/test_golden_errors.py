"""Manifests in, all that is said about them out: one manifest and one text a case in ``golden/errors``.

These texts are the specification of our errors and warnings. ``GOLDEN=write pytest tests/golden/test_golden_errors.py``
writes them anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calico.cli.manifests import BadManifests, load
from calico.cli.problems import text, warnings_of

FOLDER = Path(__file__).parent / "errors"
CASES = sorted(path for path in FOLDER.iterdir() if path.suffix in {".yaml", ".json"})


@pytest.mark.parametrize("manifest", CASES, ids=lambda path: path.name)
def test_what_is_said(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is wrong with a manifest is said, each with its place, what is wrong, and what would be right."""
    monkeypatch.chdir(FOLDER)
    try:
        found = warnings_of(load([manifest.name], None))
    except BadManifests as bad:
        found = list(bad.problems)
    said = "".join(f"{text(problem)}\n" for problem in found)
    golden = manifest.with_suffix(".txt")
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(said)

    assert said
    assert said == golden.read_text()


def test_no_text_is_left_over() -> None:
    """Each text belongs to a manifest."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in CASES}
