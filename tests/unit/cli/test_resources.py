"""``apply``, ``get`` and ``delete``, in this process, on a store of their own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result

from calico.datastore.sqlite import SQLiteStore
from calico.model import codec
from support.calicoctl import Run, calicoctl_in

TIER = """\
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100}
"""
POLICY = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: security.web, namespace: shop}
spec: {tier: security, order: 10, selector: app == 'web'}
"""
POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
"""
BROKEN = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: two}
spec:
  cidr: 10.2.0.0/16
  blocksize: 26
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


def _names(result: Result) -> list[str]:
    return [each["metadata"]["name"] for each in json.loads(result.stdout)["items"]]


def _store(tmp_path: Path, path: str, value: bytes) -> None:
    async def put() -> None:
        store = SQLiteStore(tmp_path / "data" / "calico.db")
        await store.put(path, value, revision=None)
        await store.close()

    asyncio.run(put())


# --- apply -------------------------------------------------------------------------------------------


def test_apply_from_standard_input_then_get(run: Run) -> None:
    """Several documents in any order: the tier is written before its policy."""
    result = run("apply", "-f", "-", stdin=f"{POLICY}---\n{TIER}")
    assert result.stdout == "Successfully applied 2 resource(s)\n"
    assert run("get", "np", "-A").stdout == (
        "NAMESPACE   NAME           TIER\nshop        security.web   security\n"
    )


def test_apply_says_the_kind_when_there_is_one(run: Run) -> None:
    """As calicoctl does."""
    assert run("apply", "-f", "-", stdin=POOL).stdout == "Successfully applied 1 'IPPool' resource(s)\n"


def test_apply_twice_updates_and_keeps_the_identity(run: Run) -> None:
    """A resource keeps its uid; the second version is stored."""
    run("apply", "-f", "-", stdin=TIER)
    before = json.loads(run("get", "tier", "security", "-o", "json").stdout)
    run("apply", "-f", "-", stdin=TIER.replace("100", "200"))
    after = json.loads(run("get", "tier", "security", "-o", "json").stdout)
    assert (after["metadata"]["uid"], after["spec"]["order"]) == (before["metadata"]["uid"], 200)


def test_a_directory_is_read_in_order_of_names_and_deeper_only_if_asked(run: Run, tmp_path: Path) -> None:
    """Only .yaml, .yml and .json files count; -R looks into directories of the directory."""
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "a.yaml").write_text(TIER)
    (tmp_path / "m" / "notes.txt").write_text("no manifest")
    tree = {"apiVersion": "v1", "kind": "List", "items": [codec.to_builtins(codec.load(POOL)[0])]}
    (tmp_path / "m" / "deep" / "b.json").write_text(json.dumps(tree))
    assert "applied 1 'Tier'" in run("apply", "-f", "m").stdout
    assert "applied 2 resource(s)" in run("apply", "-f", "m", "-R").stdout
    assert _names(run("get", "pools", "-o", "json")) == ["one"]


def test_an_address_in_the_web_is_no_file(run: Run) -> None:
    """What kubectl would fetch comes by standard input."""
    result = run("apply", "-f", "https://host/a.yaml", status=1)
    assert "No such file or directory; curl -L https://host/a.yaml | calicoctl ... -f -" in result.stderr


def test_one_broken_file_among_good_ones_changes_nothing(run: Run, tmp_path: Path) -> None:
    """All problems of all files are shown, each with file, line, field and remedy."""
    (tmp_path / "good.yaml").write_text(TIER)
    (tmp_path / "broken.yaml").write_text(f"{POOL}---\n{BROKEN}")
    (tmp_path / "worse.yaml").write_text("a: b: c")
    (tmp_path / "latin.yaml").write_bytes(b"# first\n# \xe4")
    files = [word for name in ("good", "broken", "worse", "latin", "none") for word in ("-f", f"{name}.yaml")]
    result = run("apply", *files, status=1)
    assert result.stdout == ""
    assert "broken.yaml:11:3: IPPool/two: spec.blocksize: there is no field" in result.stderr
    assert "did you mean blockSize?" in result.stderr
    assert "worse.yaml:1:5: " in result.stderr
    assert "latin.yaml:2:3: the byte 0xE4 is not UTF-8" in result.stderr
    assert "none.yaml: No such file or directory" in result.stderr
    assert result.stderr.endswith("Nothing was changed because of these 4 problems.\n")
    assert not (tmp_path / "data").exists()


def test_what_the_store_refuses_does_not_stop_the_rest(run: Run) -> None:
    """As calicoctl: a partial success names what was refused and why, and shows the place in the file."""
    overlapping = POOL.replace("one", "two").replace("/16", "/24")
    lost = POLICY.replace("security", "nowhere")
    result = run("apply", "-f", "-", stdin=f"{POOL}---\n{overlapping}---\n{lost}", status=1)
    assert result.stderr == (
        "Partial success: applied 1 out of 3 resource(s):\n"
        "hit error: <stdin>:9:14: IPPool/two: spec.cidr: 10.1.0.0/24 overlaps with pool 'one' (10.1.0.0/16);"
        " choose another prefix\n"
        "    spec: {cidr: 10.1.0.0/24}\n"
        "                 ^\n"
        "hit error: <stdin>:14:14: NetworkPolicy/shop/nowhere.web: spec.tier: there is no tier 'nowhere';"
        " create it first\n"
        "    spec: {tier: nowhere, order: 10, selector: app == 'web'}\n"
        "                 ^\n"
    )
    assert _names(run("get", "pools", "-o", "json")) == ["one"]


def test_nothing_applied_is_no_partial_success(run: Run) -> None:
    """A single refusal is a failure."""
    result = run("apply", "-f", "-", stdin=POLICY, status=1)
    assert result.stderr.startswith("Failed to apply 'NetworkPolicy' resource:\nhit error: <stdin>:4:14: ")


def test_an_old_version_does_not_overwrite_a_newer_one(run: Run) -> None:
    """A resourceVersion in a file is a promise that nobody changed it since; the sentence says what to do."""
    run("apply", "-f", "-", stdin=TIER)
    read = run("get", "tier/security", "-o", "yaml").stdout
    run("apply", "-f", "-", stdin=TIER.replace("100", "200"))
    result = run("apply", "-f", "-", stdin=read, status=1)
    assert "changed since it was read" in result.stderr
    assert "remove the resourceVersion" in result.stderr
    assert json.loads(run("get", "tier", "security", "-o", "json").stdout)["spec"]["order"] == 200


def test_what_get_shows_can_be_edited_and_applied(run: Run) -> None:
    """get -o yaml, an editor, apply -f."""
    run("apply", "-f", "-", stdin=f"{TIER}---\n{POLICY}")
    read = run("get", "policies", "-n", "shop", "-o", "yaml").stdout
    run("apply", "-f", "-", stdin=read.replace("'web'", "'shop'"))
    shown = json.loads(run("get", "np", "security.web", "-n", "shop", "-o", "json").stdout)
    assert shown["spec"]["selector"] == "app == 'shop'"


def test_the_namespace_of_the_command_line_is_for_those_that_name_none(run: Run) -> None:
    """-n fills in; a contradiction is an error, and changes nothing."""
    run("apply", "-f", "-", stdin=TIER)
    bare = POLICY.replace(", namespace: shop", "")
    run("apply", "-n", "store", "-f", "-", stdin=bare)
    run("apply", "-f", "-", stdin=bare)
    found = json.loads(run("get", "np", "-A", "-o", "json").stdout)["items"]
    assert [each["metadata"]["namespace"] for each in found] == ["default", "store"]
    refused = run("apply", "-n", "store", "-f", "-", stdin=POLICY, status=1)
    assert "-n store contradicts its namespace 'shop'" in refused.stderr


def test_one_resource_twice_is_refused_unless_it_is_the_same(run: Run, tmp_path: Path) -> None:
    """The later of two versions must not win in silence."""
    (tmp_path / "a.yaml").write_text(TIER)
    (tmp_path / "b.yaml").write_text(TIER)
    assert "applied 1 " in run("apply", "-f", "a.yaml", "-f", "b.yaml").stdout
    (tmp_path / "b.yaml").write_text(TIER.replace("100", "200"))
    refused = run("apply", "-f", "a.yaml", "-f", "b.yaml", status=1)
    assert "b.yaml:1:1: Tier/security: it stands at a.yaml:1:1 too, with other content" in refused.stderr


def test_nothing_to_apply_is_an_error_unless_allowed(run: Run, tmp_path: Path) -> None:
    """An empty file is probably a mistake, and so is a directory without manifests."""
    (tmp_path / "empty.yaml").write_text("# nothing\n---\n")
    (tmp_path / "bare").mkdir()
    assert "empty.yaml: there is no resource" in run("apply", "-f", "empty.yaml", status=1).stderr
    assert "applied 0 " in run("apply", "-f", "empty.yaml", "--skip-empty").stdout
    assert "bare: no .yaml, .yml or .json file in it" in run("apply", "-f", "bare", status=1).stderr


@pytest.mark.parametrize("name", ["default", "kube-admin"])
def test_built_in_tiers_are_there_before_anything_is_stored(run: Run, name: str) -> None:
    """Everybody may look at them; nobody may delete them."""
    assert name in run("get", "tiers").stdout
    assert "built in" in run("delete", "tier", name, status=1).stderr


# --- get ---------------------------------------------------------------------------------------------


def test_looking_makes_no_store(run: Run, tmp_path: Path) -> None:
    """A get or delete where nothing is stored leaves no file behind, and says that there is no store."""
    shown = run("get", "nodes")
    assert (shown.stdout, "there is no store at" in shown.stderr) == ("NAME\n", True)
    assert json.loads(run("get", "nodes", "-o", "json").stdout)["items"] == []
    run("delete", "node", "x", status=1)
    assert not (tmp_path / "data").exists()


def test_one_by_name_is_shown_by_itself(run: Run) -> None:
    """KIND NAME and KIND/NAME are the same, in any case."""
    run("apply", "-f", "-", stdin=POOL)
    assert json.loads(run("get", "ippool", "one", "-o", "json").stdout)["kind"] == "IPPool"
    assert run("get", "Pools/one").stdout == run("get", "IPPOOL", "one").stdout


def test_several_kinds_by_name_are_a_table_each(run: Run) -> None:
    """The tables stand in the order in which they were asked for."""
    run("apply", "-f", "-", stdin=f"{TIER}---\n{POOL}")
    assert run("get", "tier/security", "pool/one").stdout == (
        "NAME       ORDER\nsecurity   100\n\nNAME   CIDR          SELECTOR\none    10.1.0.0/16   all()\n"
    )


def test_what_does_not_exist_is_an_error_and_the_rest_is_shown(run: Run) -> None:
    """Exit status 1, the names that are missing on standard error."""
    run("apply", "-f", "-", stdin=POOL)
    result = run("get", "pool", "one", "two", status=1)
    assert result.stdout == "NAME   CIDR          SELECTOR\none    10.1.0.0/16   all()\n"
    assert result.stderr == "IPPool/two does not exist\n"


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_a_name_in_another_namespace_is_pointed_out(run: Run, verb: str) -> None:
    """The usual mistake is a forgotten -n."""
    run("apply", "-f", "-", stdin=f"{TIER}---\n{POLICY}")
    assert "there is one in namespace shop" in run(verb, "np", "security.web", status=1).stderr


def test_an_empty_namespace_says_that_others_are_not(run: Run) -> None:
    """No policies here is not the same as no policies."""
    run("apply", "-f", "-", stdin=f"{TIER}---\n{POLICY}")
    shown = run("get", "np")
    assert (shown.stdout, shown.stderr) == (
        "NAME   TIER\n",
        "no networkpolicies in this namespace; 1 in others (-A shows them)\n",
    )
    assert run("get", "np", "-n", "shop").stderr == ""


def test_get_of_files_shows_what_is_stored_of_them(run: Run, tmp_path: Path) -> None:
    """The files say which; the store says what."""
    (tmp_path / "a.yaml").write_text(f"{TIER}---\n{POOL}")
    run("apply", "-f", "-", stdin=TIER.replace("100", "7"))
    result = run("get", "-f", "a.yaml", status=1)
    assert result.stdout == "NAME       ORDER\nsecurity   7\n"
    assert result.stderr == "IPPool/one does not exist\n"


@pytest.mark.parametrize(
    "value", [b"{", b'{"kind":"IPPool","spec":{"cidr":7}}', b'{"kind":"Node"}', b"\xff"], ids=repr
)
def test_what_cannot_be_read_is_named_and_the_rest_shown(run: Run, tmp_path: Path, value: bytes) -> None:
    """One broken value hides no other, and can be repaired or deleted."""
    run("apply", "-f", "-", stdin=POOL)
    path = "/calico/resources/v3/projectcalico.org/ippools/bad"
    _store(tmp_path, path, value)
    result = run("get", "pools", status=1)
    assert result.stdout == "NAME   CIDR          SELECTOR\none    10.1.0.0/16   all()\n"
    assert result.stderr.startswith("cannot be read: IPPool/bad: ")
    assert "IPPool/bad" in run("get", "pool", "bad", status=1).stderr
    run("apply", "-f", "-", stdin=POOL.replace("one", "bad").replace("10.1.", "10.2."))
    assert _names(run("get", "pools", "-o", "json")) == ["bad", "one"]
    _store(tmp_path, path, value)
    run("delete", "pool", "bad")
    assert _names(run("get", "pools", "-o", "json")) == ["one"]


def test_newer_writers_are_read_as_far_as_they_are_understood(run: Run, tmp_path: Path) -> None:
    """Unknown fields and unknown kinds in the store are no errors."""
    run("apply", "-f", "-", stdin=POOL)
    root_path = "/calico/resources/v3/projectcalico.org"
    _store(
        tmp_path,
        f"{root_path}/ippools/new",
        b'{"kind":"IPPool","spec":{"cidr":"10.3.0.0/16","colour":"blue"}}',
    )
    _store(tmp_path, f"{root_path}/wormholes/new", b'{"kind":"Wormhole"}')
    _store(tmp_path, f"{root_path}/ippools/too/deep", b"{}")
    assert _names(run("get", "pools", "-o", "json")) == ["new", "one"]


# --- delete ------------------------------------------------------------------------------------------


def test_delete_by_file_takes_policies_before_their_tier(run: Run) -> None:
    """The manifest that made them unmakes them, in whatever order it is written."""
    both = f"{TIER}---\n{POLICY}"
    run("apply", "-f", "-", stdin=both)
    assert run("delete", "-f", "-", stdin=both).stdout == "Successfully deleted 2 resource(s)\n"
    assert "security" not in run("get", "tiers").stdout


def test_a_tier_with_policies_is_kept(run: Run) -> None:
    """The policy that holds it is named."""
    run("apply", "-f", "-", stdin=f"{TIER}---\n{POLICY}")
    result = run("delete", "tier", "security", status=1)
    assert "still holds NetworkPolicy/shop/security.web" in result.stderr


def test_what_is_not_there_cannot_be_deleted_unless_skipped(run: Run) -> None:
    """The rest is deleted either way; -s makes it no error, and still says it."""
    run("apply", "-f", "-", stdin=POOL)
    result = run("delete", "pool", "one", "two", status=1)
    assert result.stderr == (
        "Partial success: deleted 1 out of 2 'IPPool' resource(s):\nhit error: IPPool/two: does not exist\n"
    )
    assert run("delete", "pool", "two", "-s").stdout == (
        "Successfully deleted 1 'IPPool' resource(s) (1 of them did not exist)\n"
    )


# --- the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["get"], "say what to get"),
        (["get", "tiers", "-f", "x.yaml"], "say what to get"),
        (["get", "bogus"], "there is no kind 'bogus'"),
        (["get", "tiers", "-A", "-n", "x"], "contradict each other"),
        (["get", "np", "web", "-A"], "a NAME is in one namespace"),
        (["get", "tiers", "-o", "xml"], "xml"),
        (["get", "tiers", "-o", "jsonpath={.items}"], "custom-columns=NAME:.metadata.name has paths"),
        (["apply"], "write -f before each file"),
        (["apply", "a.yaml"], "write -f before each file"),
        (["describe", "node", "a"], "'calicoctl get KIND NAME -o yaml' shows"),
        (["nonsense"], "--help lists them"),
        (["apply", "-f", "a.yaml", "b.yaml"], "'b.yaml' has no -f before it"),
        (["delete", "-f", "a.yaml", "b.yaml"], "-f before each FILE"),
        (["get", "np", "-n", ""], "--namespace"),
        (["apply", "-f", "x.yaml", "-n", "Not/One"], "'Not/One' is no"),
        (["delete"], "say what to delete"),
        (["delete", "tiers"], "say which of the tiers"),
        (["delete", "tier", "a", "-f", "x.yaml"], "say what to delete"),
        (["aply", "-f", "x"], "did you mean 'apply'"),
        (["get", "nodes", "--lab", ""], "--lab is given, but its value is empty"),
        (["--datastore-path", "", "get", "nodes"], "--datastore-path is given, but its value is empty"),
        (["get", "nodes", "--lab", "none"], "there is no lab 'none'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_says_what_is_wrong(run: Run, words: list[str], sentence: str) -> None:
    """Exit status 2, nothing on standard output, nothing stored."""
    result = run(*words, status=2)
    assert sentence in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["apply", "get", "delete"])
def test_help_has_examples_and_says_what_the_exit_status_means(run: Run, command: str) -> None:
    """A person needs no other page."""
    shown = run(command, "--help").stdout
    assert f"calicoctl {command} " in shown
    assert "Examples:" in shown
    assert "Exit status: 0 " in shown
