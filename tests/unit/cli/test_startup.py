"""What short commands import: what is not imported costs nothing. Modules are counted here, and never time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv[0] = "calicoctl"
from calico.cli.main import main
main()
"""

EVENT_LOOP = {"asyncio", "concurrent", "logging", "selectors", "socket", "ssl", "subprocess"}
JUDGEMENT = {
    "calico.cli.manifests",
    "calico.cli.problems",
    "calico.model.checks",
    "calico.model.judgement",
    "calico.model.policy_validation",
    "calico.model.selector",
    "calico.model.validation",
    "yaml",
}
"""What reads and judges files."""
OTHERS = {
    "calico.agent",
    "calico.lab",
    "calico.cli.watch",
    "google",
    "grpc",
    "hashlib",
    "pyroute2",
    "secrets",
}
CHOSEN = {"calico.cli.columns", "calico.cli.fields", "calico.cli.gotemplate", "calico.model.jsonschema"}

POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
"""

CASES: dict[str, set[str]] = {
    "--help": {
        *EVENT_LOOP,
        *JUDGEMENT,
        *OTHERS,
        *CHOSEN,
        "calico.model",
        "json",
        "msgspec",
        "pathlib",
        "sqlite3",
    },
    "--version": {
        *EVENT_LOOP,
        *JUDGEMENT,
        *OTHERS,
        *CHOSEN,
        "calico.model",
        "json",
        "msgspec",
        "pathlib",
        "sqlite3",
    },
    "version --client": {
        *EVENT_LOOP,
        *JUDGEMENT,
        *OTHERS,
        *CHOSEN,
        "calico.model",
        "json",
        "msgspec",
        "sqlite3",
    },
    "version": {*EVENT_LOOP, *JUDGEMENT, *OTHERS, *CHOSEN, "json"},
    "get pools": {*EVENT_LOOP, *JUDGEMENT, *OTHERS, *CHOSEN, "json"},
    "get tiers -o wide": {*EVENT_LOOP, *OTHERS, *CHOSEN, "calico.model.selector", "json", "yaml"},
    "get pools -o json": {*EVENT_LOOP, *JUDGEMENT, *OTHERS, *CHOSEN},
    "get pools -o yaml": {*EVENT_LOOP, *OTHERS, *CHOSEN, "calico.model.judgement", "calico.model.selector"},
    "get pool one -o custom-columns=NAME,B:.spec.blockSize": {*EVENT_LOOP, *JUDGEMENT, *OTHERS},
    "get --help": {*EVENT_LOOP, *JUDGEMENT, *OTHERS, *CHOSEN, "json", "sqlite3"},
    # click looks for bash's version, with another process
    "completion bash": {
        "asyncio",
        "logging",
        *JUDGEMENT,
        *OTHERS,
        *CHOSEN,
        "calico.model",
        "json",
        "msgspec",
        "sqlite3",
    },
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a user with a store that holds a pool."""
    place = tmp_path_factory.mktemp("startup")
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    names = {"DATA": "data", "RUN": "run", "CONFIG": "etc"}
    variables = kept | {f"CALICO_{name}_DIR": str(place / path) for name, path in names.items()}
    (place / "pool.yaml").write_text(POOL)
    _modules(variables, "apply", "-f", str(place / "pool.yaml"))
    assert Path(place / "data" / "calico.db").exists()
    return variables


def _modules(environment: dict[str, str], *words: str, **more: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=environment | more,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", CASES)
def test_what_a_command_does_not_need_is_not_imported(environment: dict[str, str], words: str) -> None:
    """Start-up is what a person waits for with every command."""
    assert _modules(environment, *words.split()) & CASES[words] == set()


def test_completion_looks_into_a_file_without_an_event_loop(environment: dict[str, str]) -> None:
    """A shell waits for it at every tab."""
    found = _modules(
        environment, _CALICOCTL_COMPLETE="bash_complete", COMP_WORDS="calicoctl get pools o", COMP_CWORD="3"
    )
    assert "sqlite3" in found
    assert found & {*EVENT_LOOP, *JUDGEMENT, *OTHERS, *CHOSEN} == set()
