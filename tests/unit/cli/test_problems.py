"""Problems and warnings as people and programs read them."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from calico.cli import problems
from calico.cli.main import root
from calico.model.codec import read
from calico.model.errors import Problem

ERROR = Problem(
    message="what is wrong",
    remedy="what would be right",
    path=("spec", "nets", 0),
    kind="NetworkSet",
    name="shop/blocked",
    source="set.yaml",
    document=1,
    line=7,
    column=5,
    excerpt="  - 10.0.0.0/33",
)
WARNING = Problem(
    message="it has no effect", kind="Tier", name="gold", source="tier.yaml", severity="warning"
)


def test_text() -> None:
    """Without colours the text is the problem's own."""
    assert problems.text(ERROR) == str(ERROR)
    assert problems.text(WARNING) == "tier.yaml: warning: Tier/gold: it has no effect"


def test_colours_change_no_words() -> None:
    """In colours an error says that it is one; else the words and the place of the caret are the same."""
    coloured = click.unstyle(problems.text(ERROR, colour=True))

    assert "\x1b[" in problems.text(ERROR, colour=True)
    assert coloured == str(ERROR).replace("set.yaml:7:5: ", "set.yaml:7:5: error: ", 1)
    assert click.unstyle(problems.text(WARNING, colour=True)) == str(WARNING)


def test_data() -> None:
    """For programs the path is a list, and the namespace stands by itself, where there is one."""
    assert problems.as_data(ERROR) == {
        "severity": "error",
        "source": "set.yaml",
        "document": 1,
        "line": 7,
        "column": 5,
        "kind": "NetworkSet",
        "name": "blocked",
        "namespace": "shop",
        "path": ["spec", "nets", 0],
        "field": "spec.nets[0]",
        "message": "what is wrong",
        "remedy": "what would be right",
    }
    assert "namespace" not in problems.as_data(WARNING)


def test_a_report_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors and warnings are one document on standard output, and so is nothing at all."""
    problems.report([ERROR, WARNING], as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [each["severity"] for each in said["problems"]] == ["error", "warning"]

    problems.report([], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_a_report_as_text_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Text is for people, and leaves standard output alone; a file gets no colours."""
    problems.report([ERROR], as_json=False)

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{ERROR}\n")


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What a report writes where standard error is a terminal."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        problems.report([ERROR], as_json=False)
        terminal.flush()
        said = os.read(reader, 1 << 16).decode()
    os.close(reader)
    return said


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours, unless NO_COLOR is set or it is a dumb one."""
    assert "\x1b[" in on_a_terminal(monkeypatch, TERM="xterm")
    assert "\x1b[" in on_a_terminal(monkeypatch, TERM="xterm", NO_COLOR="")
    assert "\x1b[" not in on_a_terminal(monkeypatch, TERM="xterm", NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(monkeypatch, TERM="dumb")


HIDDEN = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  ingress: [{action: Allow, http: {methods: [GET]}}]
  types: [Ingress]
  selector: a == 'x' && a == 'y'
"""


def test_warnings_stand_in_the_order_of_the_text() -> None:
    """What is not done and what is surely not meant are told together, by line."""
    found = problems.warnings_of(read(HIDDEN, "web.yaml"))

    assert [(each.line, each.field, each.severity) for each in found] == [
        (5, "spec.ingress[0].http", "warning"),
        (7, "spec.selector", "warning"),
    ]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a store of its own."""
    for variable, place in (("DATA", "data"), ("RUN", "run"), ("CONFIG", "etc")):
        monkeypatch.setenv(f"CALICO_{variable}_DIR", str(tmp_path / place))
    monkeypatch.delenv("DATASTORE_TYPE", raising=False)
    monkeypatch.delenv("CALICO_SQLITE_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", ["validate", "apply", "create", "replace"])
def test_every_verb_that_reads_files_gives_errors_as_data(at: Path, verb: str) -> None:
    """With -o json a broken file is one document on standard output, and the exit status is 1."""
    (at / "tier.yaml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: gold}\nspec: {ordr: 1}\n"
    )

    result = CliRunner().invoke(root, [verb, "-f", "tier.yaml", "-o", "json"])

    assert result.exit_code == 1
    (only,) = json.loads(result.stdout)["problems"]
    assert (only["severity"], only["field"], only["line"]) == ("error", "spec.ordr", 4)
    assert result.stderr == ""


@pytest.mark.parametrize("verb", ["validate", "apply"])
def test_warnings_fail_nothing(at: Path, verb: str) -> None:
    """Warnings are reported, as text and as data, and the exit status is 0."""
    (at / "web.yaml").write_text(HIDDEN)

    as_text = CliRunner().invoke(root, [verb, "-f", "web.yaml"])
    as_data = CliRunner().invoke(root, [verb, "-f", "web.yaml", "-o", "json"])

    assert (as_text.exit_code, as_data.exit_code) == (0, 0)
    assert as_text.stderr.startswith(
        "web.yaml:5:29: warning: GlobalNetworkPolicy/web: spec.ingress[0].http: "
    )
    assert [each["severity"] for each in json.loads(as_data.stdout)["problems"]] == ["warning", "warning"]
