"""``calicoctl get --watch`` as a process: rows as they happen, loss of the store, and every way to end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "calico.cli.main"]
PATIENCE = 60.0

Watch = Callable[..., "Watcher"]


class Watcher:
    """A watch that runs, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self.output = output
        self.errors = errors

    def until(self, text: str, *, errors: bool = False) -> str:
        """All that was said, once it contains ``text``."""
        deadline = time.monotonic() + PATIENCE
        while True:
            said = (self.errors if errors else self.output).read_text()
            if text in said:
                return said
            assert time.monotonic() < deadline, (said, self.errors.read_text())
            assert self.process.poll() is None, (said, self.errors.read_text())
            time.sleep(0.02)

    def end(self, number: int) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    places = {"DATA": "data", "RUN": "run", "CONFIG": "etc"}
    return kept | {f"CALICO_{name}_DIR": str(tmp_path / place) for name, place in places.items()}


@pytest.fixture
def apply(environment: dict[str, str]) -> Callable[..., None]:
    def calicoctl(*words: str, stdin: str = "") -> None:
        subprocess.run(
            [*COMMAND, *words],
            input=stdin,
            env=environment,
            text=True,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    return calicoctl


@pytest.fixture
def watch(environment: dict[str, str], tmp_path: Path) -> Iterator[Watch]:
    running: list[Watcher] = []

    def start(*words: str) -> Watcher:
        output, errors = tmp_path / f"{len(running)}.out", tmp_path / f"{len(running)}.err"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen([*COMMAND, "get", *words], env=environment, stdout=out, stderr=err)
        running.append(Watcher(process, output, errors))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()


def _tier(name: str, order: int) -> str:
    return f"---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {{order: {order}}}\n"


def test_rows_as_they_happen(apply: Callable[..., None], watch: Watch) -> None:
    """First what there is, then each change, a deletion as the last state with a mark; Ctrl-C ends with 130."""
    apply("apply", "-f", "-", stdin=_tier("early", 1))
    watcher = watch("tiers", "--watch")
    first = watcher.until("kube-baseline   10000000\n")
    assert first.splitlines()[:3] == ["NAME            ORDER", "default         1000000", "early           1"]
    apply("apply", "-f", "-", stdin=_tier("early", 2))
    watcher.until("early           2\n")
    apply("delete", "tier", "early")
    watcher.until("early           2          (deleted)\n")
    assert watcher.end(signal.SIGINT) == 130
    assert watcher.errors.read_text() == ""


def test_documents_of_one_name_that_is_not_there_yet(apply: Callable[..., None], watch: Watch) -> None:
    """One JSON document a line; others of the kind are not shown; SIGTERM ends with 143."""
    apply("apply", "-f", "-", stdin=_tier("other", 1))
    watcher = watch("tier", "early", "-w", "-o", "json")
    watcher.until("Tier/early does not exist yet", errors=True)
    apply("apply", "-f", "-", stdin=_tier("other", 2) + _tier("early", 1))
    watcher.until("\n")
    apply("delete", "tier", "early")
    lines = [json.loads(line) for line in watcher.until("deletionTimestamp").splitlines()]
    assert {line["metadata"]["name"] for line in lines} == {"early"}
    assert ["deletionTimestamp" in line["metadata"] for line in lines] == [*[False] * (len(lines) - 1), True]
    assert watcher.end(signal.SIGTERM) == 143


def test_only_changes(apply: Callable[..., None], watch: Watch) -> None:
    """Without what there is at first, but with the headings."""
    apply("apply", "-f", "-", stdin=_tier("early", 1))
    watcher = watch("tiers", "--watch-only", "-o", "custom-columns=NAME,ORDER")
    watcher.until("NAME")
    apply("apply", "-f", "-", stdin=_tier("early", 3))
    assert watcher.until("early").splitlines()[1].split() == ["early", "3"]


def test_a_lost_store_is_said_once_and_comes_back(
    apply: Callable[..., None], watch: Watch, tmp_path: Path
) -> None:
    """What changed meanwhile is shown when it is back."""
    apply("apply", "-f", "-", stdin=_tier("early", 1))
    watcher = watch("tiers", "-w")
    watcher.until("early")
    (tmp_path / "data").rename(tmp_path / "away")
    watcher.until("the store is lost", errors=True)
    (tmp_path / "away").rename(tmp_path / "data")
    apply("apply", "-f", "-", stdin=_tier("early", 7))
    watcher.until("early           7\n")
    assert watcher.errors.read_text().count("the store is lost") == 1


def test_a_store_that_never_was_is_an_error(watch: Watch) -> None:
    """A watch makes no store, and does not wait for one."""
    watcher = watch("tiers", "-w")
    assert watcher.process.wait(PATIENCE) == 1
    assert "calicoctl apply" in watcher.errors.read_text()


def test_a_reader_that_leaves_ends_the_watch_at_once(
    apply: Callable[..., None], environment: dict[str, str]
) -> None:
    """Without waiting for the next change, and without a word."""
    apply("apply", "-f", "-", stdin=_tier("early", 1))
    with subprocess.Popen(
        [*COMMAND, "get", "tiers", "-w"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"NAME            ORDER\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""
