"""``calicoctl explain`` and ``calicoctl test``: what is printed where, and with which status it ends."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from calico.cli.explanation import Proof
from calico.cli.proof import read
from support.calicoctl import Run, calicoctl

WORLD = """\
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: one-k8s-web-eth0, namespace: shop, labels: {app: web}}
spec:
  {orchestrator: k8s, node: one, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.1/32], profiles: [open]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: two-k8s-db-eth0, namespace: shop, labels: {app: db}}
spec:
  {orchestrator: k8s, node: two, pod: db, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.2/32], profiles: [open]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  selector: app == 'db'
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: app == 'web'}, destination: {ports: [5432]}}
"""
ASKED = ("explain", "--from", "shop/web", "--to", "shop/db")
TESTS = """\
tests:
- {name: in, from: shop/web, to: shop/db, port: 5432, expect: allow}
- {name: "out\\e[31m", from: shop/web, to: shop/db, port: 80, expect: allow}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl where there is no store but the one in the test's directory, and no agent."""
    for variable in ("DATA", "RUN", "CONFIG"):
        monkeypatch.setenv(f"CALICO_{variable}_DIR", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "tests.yaml").write_text(TESTS)
    return calicoctl


# --- explain -----------------------------------------------------------------------------------------


def test_any_answer_is_success(run: Run) -> None:
    """Allowed or denied, the question was answered; the first line says which."""
    allowed = run(*ASKED, "--port", "5432", "-f", "world.yaml")
    denied = run(*ASKED, "--port", "80", "-f", "world.yaml")
    assert allowed.stdout.startswith("allowed: shop/web (10.0.0.1) -> shop/db (10.0.0.2) TCP 5432\n")
    assert denied.stdout.startswith("denied: shop/web (10.0.0.1) -> shop/db (10.0.0.2) TCP 80, by the ")
    assert "(world.yaml:24)" in allowed.stdout
    assert allowed.stderr == ""


def test_a_live_store_gives_the_same_answer_as_files(run: Run, tmp_path: Path) -> None:
    """Without places, and with what the kernel holds, which without an agent is unknown."""
    store = ("--datastore-path", str(tmp_path / "calico.db"))
    run(*store, "apply", "-f", "world.yaml")
    live = json.loads(run(*store, *ASKED, "--port", "5432", "-o", "json").stdout)
    files = json.loads(run(*ASKED, "--port", "5432", "-f", "world.yaml", "-o", "json").stdout)
    for end in ("source", "destination"):
        kernel = live[end].pop("kernel")
        assert kernel["state"] == "unknown"
        assert "no agent runs here" in kernel["words"]
        for step in (*live[end]["trail"], *files[end]["trail"]):
            step.pop("place")
    assert live == files
    assert live["allowed"] is True
    assert live["destination"]["trail"][-1]["kind"] == "NetworkPolicy"


def test_no_store_is_made_by_asking(run: Run, tmp_path: Path) -> None:
    """An empty world has no ends, which is an error that leaves nothing behind."""
    result = run("--datastore-path", str(tmp_path / "new.db"), *ASKED, status=1)
    assert "'shop/web' is nothing that is known here" in result.stderr
    assert not (tmp_path / "new.db").exists()


def test_bad_files_are_said_in_the_one_format(run: Run, tmp_path: Path) -> None:
    """With file, line and column; nothing is explained of the half that can be read."""
    (tmp_path / "bad.yaml").write_text(WORLD.replace("selector: app == 'db'", "selectr: app"))
    result = run(*ASKED, "-f", "bad.yaml", status=1)
    assert result.stderr.startswith("bad.yaml:22:3: NetworkPolicy/shop/db: spec.selectr: there is no field")
    assert result.stdout == ""


def test_contradicting_files_are_refused(run: Run, tmp_path: Path) -> None:
    """One resource that stands twice with other content has no meaning."""
    (tmp_path / "again.yaml").write_text(WORLD.replace("5432", "5433"))
    result = run(*ASKED, "-f", "world.yaml", "-f", "again.yaml", status=1)
    assert "again.yaml:18:1: NetworkPolicy/shop/db: it stands at world.yaml:18:1 too" in result.stderr


def test_what_policy_does_not_depend_on_is_passed_over_and_counted(run: Run, tmp_path: Path) -> None:
    """A directory of manifests may hold anything that is somebody else's."""
    (tmp_path / "more.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\n"
        "apiVersion: v1\nkind: Node\nmetadata: {name: one}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n"
    )
    result = run(*ASKED, "-f", "world.yaml", "-f", "more.yaml")
    assert result.stderr == (
        "passed over 3 objects that policy does not depend on: 1 ConfigMap, 1 Deployment, 1 Node\n"
    )


def test_verbose_shows_what_did_not_match(run: Run) -> None:
    """And why; without it the trail is short."""
    short = run(*ASKED, "--port", "80", "-f", "world.yaml").stdout
    whole = run(*ASKED, "--port", "80", "-f", "world.yaml", "-v").stdout
    assert "no match" not in short
    assert "no match: destination port 80 is none of its ports" in whole


# --- the kernel's side -------------------------------------------------------------------------------

ANSWER = {
    "node": "one",
    "backend": "nftables",
    "store": "here.db",
    "state": "proven",
    "differences": [],
    "elsewhere": 0,
    "fingerprint": "f",
}


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ({}, "proven", "nftables of one holds exactly"),
        ({"elsewhere": 2}, "proven", "2 differences elsewhere"),
        ({"state": "drifted", "differences": ["chain x"]}, "drifted", "something else"),
        ({"state": "unknown", "reason": "it is starting"}, "unknown", "it is starting"),
        ({"store": "there.db"}, "unknown", "another store (there.db)"),
        ({"fingerprint": "g"}, "unknown", "it may be behind"),
    ],
)
def test_an_agents_answer_proves_only_what_the_store_says(answer: object, state: str, words: str) -> None:
    """An agent of another store, or one that is behind, proves nothing."""
    found = read({**ANSWER, **answer}, "f", "here.db")
    assert isinstance(found, Proof)
    assert found.state == state
    assert words in found.words
    assert found.differences == tuple({**ANSWER, **answer}["differences"] if state == "drifted" else ())


# --- test --------------------------------------------------------------------------------------------


def test_failures_are_told_with_their_trail(run: Run) -> None:
    """Status 1; names of tests command no terminal."""
    result = run("test", "tests.yaml", "-f", "world.yaml", status=1)
    assert "FAIL  out\ufffd[31m  (tests.yaml:3)\n      expected allow, but it is denied\n" in result.stdout
    assert "Deny  end of tier default" in result.stdout
    assert result.stdout.endswith("\n1 passed, 1 failed\n")
    assert "ok    in" not in result.stdout
    assert "ok    in" in run("test", "tests.yaml", "-f", "world.yaml", "-v", status=1).stdout


def test_success_is_one_line(run: Run) -> None:
    """Status 0; tests may come from standard input."""
    tests = TESTS.replace("port: 80, expect: allow", "port: 80, expect: deny")
    assert run("test", "-", "-f", "world.yaml", stdin=tests).stdout == "2 passed\n"


def test_json_has_the_explanation_of_each_failure(run: Run) -> None:
    """And for every test what was expected, and what is."""
    found = json.loads(run("test", "tests.yaml", "-f", "world.yaml", "-o", "json", status=1).stdout)
    assert (found["passed"], found["failed"]) == (1, 1)
    good, bad = found["tests"]
    assert (good["name"], good["outcome"], "explanation" in good) == ("in", "allow", False)
    assert bad["place"] == "tests.yaml:3"
    assert bad["explanation"]["destination"]["trail"][-1]["kind"] == "Tier"


def test_junit_is_what_a_ci_reads(run: Run) -> None:
    """One case for each test, with file and line; failures carry the trail; the XML is valid whatever names hold."""
    shown = run("test", "tests.yaml", "-f", "world.yaml", "-o", "junit", status=1).stdout
    suite = ET.fromstring(shown)[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    good, bad = suite
    assert (good.get("name"), good.get("file"), good.get("line"), len(good)) == ("in", "tests.yaml", "2", 0)
    assert bad[0].get("message") == "expected allow, but it is denied"
    assert "end of tier default" in (bad[0].text or "")


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("tests: [{form: a, to: b, expect: deny}]\n", "tests.yaml:1:10: test/None -> b: tests[0].form: "),
        ("tests: [{from: shop/wbe, to: shop/db, expect: deny}]\n", "did you mean shop/web?"),
        ("nothing\n", "tests.yaml:1:1: "),
    ],
)
def test_mistakes_in_tests_are_status_2(run: Run, tmp_path: Path, tests: str, message: str) -> None:
    """A test that asks nothing must not pass, and is no failure of policy either."""
    (tmp_path / "tests.yaml").write_text(tests)
    result = run("test", "tests.yaml", "-f", "world.yaml", status=2)
    assert message in result.stderr
    assert result.stdout == ""


def test_mistakes_in_manifests_and_missing_files_are_status_2(run: Run, tmp_path: Path) -> None:
    """All that is wrong with the input is."""
    (tmp_path / "bad.yaml").write_text("kind: [")
    assert "bad.yaml:1:" in run("test", "tests.yaml", "-f", "bad.yaml", status=2).stderr
    assert "gone.yaml" in run("test", "gone.yaml", "-f", "world.yaml", status=2).stderr
    run("test", "tests.yaml", status=2)
