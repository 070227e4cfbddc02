"""``create``, ``replace``, ``patch`` and ``label``; dry runs and differences; problems as data."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from calico.cli import difference
from calico.cli.main import COMMANDS
from calico.cli.progress import Progress
from calico.cli.session import Interrupted, with_batch
from calico.cli.stores import Location
from calico.datastore.location import Datastore
from calico.datastore.sqlite import SQLiteStore
from calico.datastore.writing import Batch
from calico.model.codec import load
from calico.model.keys import Key
from support.calicoctl import Run, calicoctl_in

HEAD = "apiVersion: projectcalico.org/v3\n"
TIER = """\
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100}
"""
POLICY = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {tier: security, order: 10, selector: app == 'web'}
"""
POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
"""
NODE = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: host-1}
spec: {bgp: {ipv4Address: 192.0.2.1/24}}
"""
WRITING = ("apply", "create", "delete", "label", "patch", "replace")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


def shown(run: Run, *words: str) -> dict[str, Any]:
    return json.loads(run("get", *words, "-o", "json").stdout)


def store(tmp_path: Path, path: str, value: bytes) -> None:
    async def put() -> None:
        opened = SQLiteStore(tmp_path / "data" / "calico.db")
        await opened.put(path, value, revision=None)
        await opened.close()

    asyncio.run(put())


# --- create, replace ---------------------------------------------------------------------------------


def test_create_makes_what_is_not_there(run: Run) -> None:
    """What exists is an error, with its place and a way out; the rest is created all the same."""
    assert run("create", "-f", "-", stdin=TIER).stdout == "Successfully created 1 'Tier' resource(s)\n"
    result = run("create", "-f", "-", stdin=f"{TIER.replace('100', '7')}---\n{POOL}", status=1)
    assert result.stderr == (
        "Partial success: created 1 out of 2 resource(s):\n"
        "hit error: <stdin>:3:18: Tier/security: metadata.name: it exists already; apply updates what exists,"
        " create --skip-exists leaves it as it is\n"
        "    metadata: {name: security}\n"
        "                     ^\n"
    )
    assert shown(run, "tier", "security")["spec"]["order"] == 100


def test_create_may_skip_what_exists(run: Run) -> None:
    """It counts as created, as in calicoctl, and is left as it is."""
    run("create", "-f", "-", stdin=TIER)
    result = run("create", "-f", "-", "--skip-exists", stdin=f"{TIER.replace('100', '7')}---\n{POOL}")
    assert result.stdout == "Successfully created 2 resource(s) (1 of them existed)\n"
    assert shown(run, "tier", "security")["spec"]["order"] == 100


def test_replace_takes_what_is_there_and_nothing_else(run: Run) -> None:
    """What does not exist is an error; the others are replaced."""
    run("create", "-f", "-", stdin=POOL)
    result = run(
        "replace", "-f", "-", stdin=f"{TIER}---\n{POOL.replace('16}', '16, disabled: true}')}", status=1
    )
    assert result.stderr.startswith(
        "Partial success: replaced 1 out of 2 resource(s):\n"
        "hit error: <stdin>:3:18: Tier/security: metadata.name: it does not exist; create or apply makes it\n"
    )
    assert shown(run, "pool", "one")["spec"]["disabled"] is True
    nothing = run("replace", "-f", "-", stdin=f"{TIER}---\n{NODE}", status=1)
    assert nothing.stderr.startswith("Failed to replace any resources:\nhit error: ")


def test_a_stale_version_is_shown_where_it_stands(run: Run) -> None:
    """The line with the resourceVersion, the present one, and what to do."""
    run("create", "-f", "-", stdin=TIER)
    read = run("get", "tier/security", "-o", "yaml").stdout
    run("replace", "-f", "-", stdin=TIER.replace("100", "200"))
    result = run("replace", "-f", "-", stdin=read, status=1)
    assert "Tier/security: metadata.resourceVersion: it was changed since it was read" in result.stderr
    assert "    resourceVersion: " in result.stderr


def test_a_stale_version_is_not_deleted(run: Run) -> None:
    """A file that says which version it means takes no other with it; of a pool it is asked before all else."""
    run("create", "-f", "-", stdin=f"{TIER}---\n{POOL}")
    read = [run("get", name, "-o", "yaml").stdout for name in ("tier/security", "pool/one")]
    run("label", "tier", "security", "a=b")
    run("label", "pool", "one", "a=b")
    for text in read:
        refused = run("delete", "-f", "-", stdin=text, status=1)
        assert "metadata.resourceVersion: it was changed since it was read" in refused.stderr
    assert "disabled" not in shown(run, "pool", "one")["spec"]
    for name in ("tier/security", "pool/one"):
        run("delete", "-f", "-", stdin=run("get", name, "-o", "yaml").stdout)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "kind: ClusterInformation\nmetadata: {name: default}",
            "ClusterInformation/default: the system keeps it",
        ),
        (
            "kind: NetworkPolicy\nmetadata: {name: knp.default.web}",
            "NetworkPolicy/default/knp.default.web: it belongs to a policy of Kubernetes",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["create", "apply", "replace", "delete"])
def test_what_belongs_to_others_is_not_written(run: Run, verb: str, text: str, sentence: str) -> None:
    """Nor deleted; the sentence says whose it is."""
    run("apply", "-f", "-", stdin=TIER)
    result = run(verb, "-f", "-", stdin=f"apiVersion: projectcalico.org/v3\n{text}\n", status=1)
    assert f"hit error: <stdin>:1:1: {sentence}" in result.stderr


def test_an_apply_makes_the_cluster_known(run: Run) -> None:
    """Agents of Calico start when the cluster has an identity and its store is ready."""
    run("apply", "-f", "-", stdin=TIER)
    spec = shown(run, "clusterinformation", "default")["spec"]
    assert (len(spec["clusterGUID"]), spec["datastoreReady"]) == (32, True)
    run("apply", "-f", "-", stdin=POOL)
    assert shown(run, "clusterinformation", "default")["spec"] == spec


def test_what_a_newer_program_stored_is_kept(run: Run, tmp_path: Path) -> None:
    """apply, patch and label leave fields alone that this program does not know."""
    path = "/calico/resources/v3/projectcalico.org/nodes/host-1"
    run("apply", "-f", "-", stdin=TIER)
    store(tmp_path, path, b'{"kind":"Node","spec":{"bgp":{"ipv4Address":"192.0.2.1/24","hue":7},"rack":"b"}}')
    run("apply", "-f", "-", stdin=NODE)
    run("label", "node", "host-1", "a=b")
    run("patch", "node", "host-1", "-p", '{"spec": {"bgp": {"asNumber": 64513}}}')

    async def read() -> bytes:
        opened = SQLiteStore(tmp_path / "data" / "calico.db")
        entry = await opened.get(path)
        await opened.close()
        assert entry is not None
        return entry.value

    tree = json.loads(asyncio.run(read()))
    assert tree["metadata"]["labels"] == {"a": "b"}
    assert tree["spec"] == {
        "bgp": {"ipv4Address": "192.0.2.1/24", "asNumber": 64513, "hue": 7},
        "rack": "b",
    }


# --- dry runs and differences ------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    """The client's needs no store, the server's judges by it; the sentence says which it was."""
    both = f"{TIER}---\n{POLICY}"
    assert run("apply", "-f", "-", "--dry-run=client", stdin=both).stdout == (
        "Successfully applied 2 resource(s) (dry run)\n"
    )
    assert run("apply", "-f", "-", "--dry-run=client", stdin=POLICY).exit_code == 0
    assert (
        "there is no tier 'security'"
        in run("apply", "-f", "-", "--dry-run=server", stdin=POLICY, status=1).stderr
    )
    assert run("create", "-f", "-", "--dry-run=server", stdin=both).stdout == (
        "Successfully created 2 resource(s) (server dry run)\n"
    )
    assert not (tmp_path / "data").exists()
    run("apply", "-f", "-", stdin=both)
    for words in (
        ("delete", "np", "web", "-n", "shop"),
        ("patch", "tier", "security", "-p", '{"spec": {"order": 1}}'),
        ("label", "tier", "security", "a=b"),
    ):
        assert run(*words, "--dry-run=server").stdout.endswith("(server dry run)\n")
        assert run(*words, "--dry-run=client").stdout.endswith("(dry run)\n")
    assert shown(run, "tier", "security")["spec"]["order"] == 100
    assert "labels" not in shown(run, "tier", "security")["metadata"]
    assert len(shown(run, "np", "-A")["items"]) == 1


def test_a_difference_is_shown_and_not_made(run: Run) -> None:
    """A unified diff of YAML without the system's marks; exit status 1 for a difference, 0 for none."""
    run("apply", "-f", "-", stdin=TIER)
    result = run("apply", "-f", "-", "--diff", stdin=TIER.replace("100", "200"), status=1)
    assert result.stdout == (
        "--- stored/Tier/security\n"
        "+++ wanted/Tier/security\n"
        "@@ -3,5 +3,5 @@\n"
        " metadata:\n"
        "   name: security\n"
        " spec:\n"
        "-  order: 100\n"
        "+  order: 200\n"
        "   defaultAction: Deny\n"
    )
    assert run("apply", "-f", "-", "--diff", stdin=TIER).stdout == ""
    assert shown(run, "tier", "security")["spec"]["order"] == 100


def test_differences_of_other_verbs(run: Run) -> None:
    """What is new or gone stands against /dev/null; a node takes along what is its own."""
    made = run("create", "-f", "-", "--diff", stdin=TIER, status=1).stdout
    assert made.startswith("--- /dev/null\n+++ wanted/Tier/security\n")
    endpoint = """\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: eth0}
spec: {node: host-1, interfaceName: eth0}
"""
    run("apply", "-f", "-", stdin=f"{NODE}---\n{endpoint}")
    gone = run("delete", "node", "host-1", "--diff", status=1).stdout
    assert "--- stored/HostEndpoint/eth0\n+++ /dev/null\n" in gone
    assert "--- stored/Node/host-1\n+++ /dev/null\n" in gone
    assert "+  labels:\n" in run("label", "node", "host-1", "a=b", "--diff", status=1).stdout
    run("get", "hostendpoint", "eth0")
    run("delete", "node", "host-1")
    run("get", "hostendpoint", "eth0", status=1)


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "-f", "none.yaml"),
        ("replace", "-f", "-"),
        ("delete", "tier", "none"),
        ("patch", "tier", "none", "-p", "{}"),
        ("patch", "tier", "none", "-p", "{"),
        ("label", "tier", "none", "a=b"),
    ],
    ids=str,
)
def test_a_difference_that_cannot_be_told_is_told_apart(run: Run, words: tuple[str, ...]) -> None:
    """Exit status 2: something is wrong, which is not the same as a difference."""
    result = run(*words, "--diff", stdin=TIER, status=2)
    assert result.stdout == ""
    assert result.stderr


def test_differences_are_coloured_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green for what comes, red for what goes; none where NO_COLOR is set."""
    run("apply", "-f", "-", stdin=TIER)
    monkeypatch.setattr(difference, "_coloured", lambda: True)
    result = run("apply", "-f", "-", "--diff", stdin=TIER.replace("100", "200"), status=1)
    assert "\x1b[31m-  order: 100\x1b[0m\n\x1b[32m+  order: 200\x1b[0m\n" in result.stdout


def test_unreadable_values_have_differences_too(run: Run, tmp_path: Path) -> None:
    """What cannot be read is shown as it is stored."""
    run("apply", "-f", "-", stdin=TIER)
    store(tmp_path, "/calico/resources/v3/projectcalico.org/ippools/one", b"{broken")
    assert "-{broken\n+apiVersion: " in run("apply", "-f", "-", "--diff", stdin=POOL, status=1).stdout


# --- patch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (("-p", '{"spec": {"order": 7}}'), 7),
        (("-p", "spec: {order: 7}"), 7),
        (("-t", "merge", "-p", '{"spec": {"order": 7}}'), 7),
        (("-t", "merge", "-p", '{"spec": {"order": null}}'), 1_000_000),
        (("-t", "json", "-p", '[{"op": "replace", "path": "/spec/order", "value": 7}]'), 7),
        (("-t", "strategic", "-p", "@order.yaml"), 8),
    ],
    ids=str,
)
def test_patch_changes_one_field(run: Run, tmp_path: Path, words: tuple[str, ...], order: float) -> None:
    """In each of three ways, from the command line or a file; what is unset gets its default again."""
    (tmp_path / "order.yaml").write_text("spec:\n  order: 8\n")
    run("apply", "-f", "-", stdin=TIER)
    assert run("patch", "tier", "security", *words).stdout == "Successfully patched 1 'Tier' resource\n"
    assert shown(run, "tier", "security")["spec"] == {"order": order, "defaultAction": "Deny"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("-p", '{"spec": {"orderr": 7}}'),
            "Tier/security: spec.orderr: there is no field 'orderr'; did you mean order?",
        ),
        (("-p", '{"spec": {"order": "x"}}'), "spec.order: 'x' stands where a number is expected"),
        (("-p", '{"metadata": {"name": "other"}}'), "the patch makes Tier/other of it"),
        (("-p", '{"metadata": {"resourceVersion": "1"}}'), "metadata.resourceVersion: it was changed since"),
        (("-t", "json", "-p", '{"spec": {}}'), "a JSON patch is a list of operations"),
        (("-t", "json", "-p", '[{"op": "remove", "path": "/spec/x"}]'), "operation 1 of the patch (remove)"),
        (("-p", "[]"), "the patch leaves nothing of the resource"),
        (("-p", "{"), "the patch:1:"),
        (("-p", "a: b\n---\nc: d"), "it holds 2 documents"),
        (("-p", "5"), "it is 5; write a mapping"),
        (("-p", "@none.json"), "none.json: No such file or directory"),
    ],
    ids=str,
)
def test_a_bad_patch_changes_nothing(run: Run, words: tuple[str, ...], sentence: str) -> None:
    """The result is judged like a whole text; the sentence names the field or the operation."""
    run("apply", "-f", "-", stdin=TIER)
    before = shown(run, "tier", "security")
    assert sentence in run("patch", "tier", "security", *words, status=1).stderr
    assert shown(run, "tier", "security") == before


def test_patch_needs_what_it_patches(run: Run) -> None:
    """What is not there, and what cannot change, is refused."""
    run("apply", "-f", "-", stdin=POOL)
    missing = run("patch", "node", "none", "-p", "{}", status=1).stderr
    assert missing == (
        "Failed to patch 'Node' resource:\n"
        "hit error: Node/none: metadata.name: it does not exist; create or apply makes it\n"
    )
    changed = run("patch", "pool/one", "-p", '{"spec": {"cidr": "10.9.0.0/16"}}', status=1).stderr
    assert "IPPool/one: spec.cidr: a pool's prefix cannot change" in changed


def test_what_a_patch_does_not_touch_is_not_completed(run: Run, tmp_path: Path) -> None:
    """A stored policy without types is for both directions; a label does not make it one for ingress alone."""
    path = "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/old"
    run("apply", "-f", "-", stdin=TIER)
    store(tmp_path, path, b'{"kind":"GlobalNetworkPolicy","spec":{"tier":"default"}}')
    run("label", "gnp", "old", "a=b")
    run("patch", "gnp", "old", "-p", '{"metadata": {"annotations": {"c": "d"}}}')
    policy = shown(run, "gnp", "old")
    assert "types" not in policy["spec"]
    assert policy["metadata"]["labels"]["a"] == "b"


# --- label -------------------------------------------------------------------------------------------


def test_labels_are_set_changed_and_removed(run: Run) -> None:
    """With the sentences of calicoctl, one for each label."""
    run("apply", "-f", "-", stdin=NODE)
    assert run("label", "nodes", "host-1", "rack=1", "row=b").stdout == (
        "Successfully set label rack on nodes host-1\nSuccessfully set label row on nodes host-1\n"
    )
    assert run("label", "node/host-1", "rack=2", "--overwrite").stdout == (
        "Successfully updated label rack on node host-1\n"
    )
    assert (
        run("label", "node", "host-1", "rack=2").stdout == "Successfully updated label rack on node host-1\n"
    )
    assert run("label", "node", "host-1", "row", "--remove").stdout == (
        "Successfully removed label row from node host-1\n"
    )
    assert run("label", "node", "host-1", "rack-", "zone=z").exit_code == 0
    assert shown(run, "node", "host-1")["metadata"]["labels"] == {"zone": "z"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rack=2", "row=b"), "metadata.labels.rack: it is '1' already; --overwrite gives it another value"),
        (("rak-",), "metadata.labels.rak: there is no such label to remove; did you mean rack?"),
        (("row", "--remove"), "metadata.labels.row: there is no such label to remove"),
    ],
    ids=str,
)
def test_labels_are_all_set_or_none(run: Run, words: tuple[str, ...], sentence: str) -> None:
    """One that is there with another value, or is to go and not there, stops the others."""
    run("apply", "-f", "-", stdin=NODE)
    run("label", "node", "host-1", "rack=1")
    assert f"hit error: Node/host-1: {sentence}" in run("label", "node", "host-1", *words, status=1).stderr
    assert shown(run, "node", "host-1")["metadata"]["labels"] == {"rack": "1"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("label", "node", "a"), "say which labels"),
        (("label", "node", "a", "b"), "'b' is no label; write KEY=VALUE to set one, KEY- to remove one"),
        (("label", "node", "a", "b=c", "--remove"), "contradicts --remove"),
        (("label", "node", "a", "b=c", "--remove", "--overwrite"), "contradict each other"),
        (("label", "node", "a", "b=c", "b=d"), "named twice"),
        (("label", "node", "a", "b=c d"), "'c d' is no value of a label"),
        (("label", "node"), "name one resource"),
        (("patch", "node", "-p", "{}"), "name one resource"),
        (("patch", "node", "a", "b", "-p", "{}"), "names 2"),
        (("patch", "node", "a"), "--patch"),
        (("create", "-f", "a", "b"), "'b' has no -f before it"),
        (("apply", "-f", "a", "--dry-run=maybe"), "maybe"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_explained(run: Run, words: tuple[str, ...], sentence: str) -> None:
    """Exit status 2, and nothing is looked at."""
    assert sentence in run(*words, status=2).stderr


# --- problems as data, help, progress ----------------------------------------------------------------


def test_problems_are_data_where_asked_for(run: Run) -> None:
    """One JSON document on standard output, whether the text or the store refuses, or nobody does."""
    broken = run("apply", "-f", "-", "-o", "json", stdin=TIER.replace("order", "oder"), status=1)
    (problem,) = json.loads(broken.stdout)["problems"]
    assert (problem["field"], problem["line"], problem["column"]) == ("spec.oder", 4, 8)
    assert broken.stderr == ""
    refused = run("create", "-f", "-", "-o", "json", stdin=POLICY, status=1)
    (problem,) = json.loads(refused.stdout)["problems"]
    assert (problem["kind"], problem["namespace"], problem["name"]) == ("NetworkPolicy", "shop", "web")
    assert (problem["field"], problem["line"]) == ("spec.tier", 4)
    for words in (
        ("patch", "node", "none", "-p", "{}"),
        ("label", "node", "none", "a=b"),
        ("delete", "node", "none"),
    ):
        assert json.loads(run(*words, "-o", "json", status=1).stdout)["problems"]
    assert json.loads(run("apply", "-f", "-", "-o", "json", stdin=TIER).stdout) == {"problems": []}


def test_what_is_not_acted_on_is_said(run: Run) -> None:
    """A warning with its place; it changes no exit status."""
    result = run("apply", "-f", "-", stdin=POOL.replace("16}", "16, ipipMode: Always}"))
    assert "<stdin>:4:37: warning: IPPool/one: spec.ipipMode: " in result.stderr
    assert result.stdout == "Successfully applied 1 'IPPool' resource(s)\n"


@pytest.mark.parametrize("command", WRITING)
def test_help_of_writing_verbs(run: Run, command: str) -> None:
    """Examples, what the exit status means, and both ways of only looking."""
    text = run(command, "--help").stdout
    assert command in COMMANDS
    for words in ("Examples:", f"  calicoctl {command} ", "Exit status: 0 ", "--dry-run", "--diff"):
        assert words in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on a terminal, drawn at most once a percent; and gone at the end."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(1000, "Apply:") as progress:
        for _ in range(1000):
            progress.advance()
    drawn = terminal.getvalue().split("\r")
    assert drawn[51] == "Apply: [####################                    ] 500/1000"
    assert (len(drawn), drawn[-1]) == (103, "\x1b[K")
    assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize(("stream", "total"), [(io.StringIO(), 1000), (Terminal(), 10)])
def test_progress_bothers_nobody(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, total: int) -> None:
    """Nothing in a file, and nothing for little work."""
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(total, "Apply:") as progress:
        for _ in range(total):
            progress.advance()
    assert stream.getvalue() == ""


# --- what ends a command early -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--etcd-endpoints", "http://127.0.0.1:1", "apply", "-f", "-"],
        ["--datastore-path", "/proc/version", "label", "tier", "x", "a=b"],
        ["patch", "tier", "x", "-p", "[", "--type", "json"],
        ["patch", "tier", "x", "-p", "@/nonexistent"],
    ],
    ids=" ".join,
)
def test_what_ends_a_command_is_json_where_json_is_asked_for(run: Run, words: list[str]) -> None:
    """A store that cannot be used and a patch that cannot be read are problems as all others are."""
    plain = run(*words, stdin=TIER, status=1)
    result = run(*words, "-o", "json", stdin=TIER, status=1)
    [problem] = json.loads(result.stdout)["problems"]
    assert (plain.stdout, plain.stderr) == ("", f"Error: {problem['message']}\n")
    assert (problem["severity"], result.stderr) == ("error", "")


def test_names_of_files_that_are_no_text_make_no_broken_json(run: Run, tmp_path: Path) -> None:
    """What is not UTF-8 in a file's name is escaped, so that every program can read what is said of the file."""
    name = b"\xff.yaml".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_text("kind: Nothing\n")
    said = run("apply", "-f", name, "-o", "json", status=1).stdout_bytes.decode("utf-8", "strict")
    assert {each["source"] for each in json.loads(said)["problems"]} == {name}


def test_labels_that_have_no_room_are_refused(run: Run) -> None:
    """Records of IPAM have no metadata, so nobody is told that a label of theirs was set."""
    run("apply", "-f", "-", stdin=f"{HEAD}kind: IPAMConfiguration\nmetadata: {{name: default}}\nspec: {{}}\n")
    failed = run("label", "ipamconfig", "default", "a=b", status=1)
    assert "the labels of a IPAMConfiguration are not stored" in failed.stderr


def test_links_that_lead_nowhere_are_not_passed_over(run: Run, tmp_path: Path) -> None:
    """A manifest that is not there any more is an error in a directory, too; and so is a link to itself."""
    folder = tmp_path / "folder" / "deep"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text(TIER)
    (folder / "gone.yaml").symlink_to("nothing")
    (folder / "round.yaml").symlink_to("round.yaml")
    (folder / "up").symlink_to("..")
    failed = run("apply", "-f", "folder", "-R", status=1)
    assert failed.stderr == (
        "folder/deep/gone.yaml: No such file or directory\n"
        "folder/deep/round.yaml: Too many levels of symbolic links\n"
        "Nothing was changed because of these 2 problems.\n"
    )


def test_what_cannot_be_read_is_named_once(run: Run, tmp_path: Path) -> None:
    """Kind and name of a stored value that is no resource stand before the sentence, and not in it again."""
    run("apply", "-f", "-", stdin=TIER)

    async def spoil() -> None:
        store = SQLiteStore(tmp_path / "data" / "calico.db")
        await store.put(Key("Tier", "security").path, b"[]", revision=None)
        await store.close()

    asyncio.run(spoil())
    failed = run("patch", "tier", "security", "-p", "{}", status=1)
    assert failed.stderr.count("Tier/security") == 1


@pytest.mark.parametrize("how", ["merge", "json"])
def test_a_patch_with_an_old_version_says_so(run: Run, how: str) -> None:
    """However it is written, the version that it was made for is a condition, and the reason of the refusal."""
    run("apply", "-f", "-", stdin=TIER)
    content = {
        "merge": '{"metadata": {"resourceVersion": "1"}}',
        "json": '[{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}]',
    }[how]
    failed = run("patch", "tier", "security", "-t", how, "-p", content, status=1)
    assert "metadata.resourceVersion: it was changed since it was read" in failed.stderr
    assert "not 1; get it again" in failed.stderr


@pytest.mark.parametrize(("count", "rehearsal"), [(0, False), (1, False), (2, False), (2, True)])
def test_who_breaks_a_command_off_is_told_what_it_did(tmp_path: Path, count: int, rehearsal: bool) -> None:
    """How much was written, and that the same command completes it; nothing of that where nothing was."""
    location = Location(Datastore(tmp_path / "calico.db"), "a test")

    async def work(batch: Batch) -> None:
        for number in range(count):
            await batch.resources.create(load(TIER.replace("security", f"t{number}"))[0])
        raise KeyboardInterrupt

    if count and not rehearsal:
        with pytest.raises(
            Interrupted, match=f"at least {'one change' if count == 1 else f'{count} changes'} w"
        ):
            with_batch(location, work, rehearsal=rehearsal)
    else:
        with pytest.raises(KeyboardInterrupt):
            with_batch(location, work, rehearsal=rehearsal)


def test_a_status_is_not_patched(run: Run) -> None:
    """Nobody is told that a status was patched, which is the system's to write."""
    run("apply", "-f", "-", stdin=NODE)
    failed = run("patch", "node", "host-1", "-p", '{"status": {"wireguardPublicKey": "k"}}', status=1)
    assert (
        "Node/host-1: status: the system writes it, nobody else; leave it out of the patch" in failed.stderr
    )


def test_what_others_left_among_the_blocks_stops_no_deletion(run: Run, tmp_path: Path) -> None:
    """A node and a pool can be deleted beside keys that are no blocks."""
    run("apply", "-f", "-", stdin=f"{NODE}---\n{POOL}")

    async def litter() -> None:
        store = SQLiteStore(tmp_path / "data" / "calico.db")
        for path in ("host/host-1/ipv4/block/junk", "assignment/ipv4/block/junk"):
            await store.put(f"/calico/ipam/v2/{path}", b"{}", revision=None)
        await store.close()

    asyncio.run(litter())
    run("delete", "node", "host-1")
    run("delete", "ippool", "one")
