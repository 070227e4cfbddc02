"""Worlds and questions in, explanations out: the whole text that ``calicoctl explain`` prints, one file a world.

A world's questions are its first lines: ``# $`` and the options. ``GOLDEN=write pytest
tests/golden/test_golden_explain.py`` writes the texts anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from calico.cli.main import root

FOLDER = Path(__file__).parent / "explain"
WORLDS = sorted(FOLDER.glob("*.yaml"))
MARK = "# $ "


@pytest.mark.parametrize("world", WORLDS, ids=lambda path: path.stem)
def test_what_is_explained(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdict, trails, way and staged policies of each question, with what stands on standard error below it."""
    monkeypatch.chdir(FOLDER)
    questions = [line[len(MARK) :] for line in world.read_text().splitlines() if line.startswith(MARK)]
    said = ""
    for question in questions:
        words = ["explain", *shlex.split(question), "-f", world.name]
        result = CliRunner().invoke(root, words, prog_name="calicoctl")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        said += f"$ calicoctl explain {question}   # {result.exit_code}\n{result.stdout}{result.stderr}\n"
    golden = world.with_suffix(".txt")
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(said)

    assert questions
    assert said == golden.read_text()


def test_no_text_is_left_over() -> None:
    """Each text belongs to a world."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in WORLDS}
