"""Every manifest in ``examples`` does what a reader would do with it: apply, read back, delete."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from calico.datastore.sqlite import SQLiteStore
from calico.model import codec
from calico.model.keys import KINDS, ROOT, key_of
from calico.model.resource import Resource
from calico.model.validation import defaulted
from support.calicoctl import Run, calicoctl_in

EXAMPLES = Path(__file__).parents[3] / "examples"
POLICY_TESTS = EXAMPLES / "tests"
MANIFESTS = sorted(
    path
    for path in EXAMPLES.rglob("*.yaml")
    if path != EXAMPLES / "lab" / "topology.yaml" and path.parent != POLICY_TESTS
)

MADE_BY_THE_SYSTEM = {
    "BlockAffinity", "ClusterInformation", "IPAMBlock", "IPAMHandle", "LiveMigration",
    "StagedKubernetesNetworkPolicy",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl on a store of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


def stored(path: Path) -> dict[str, bytes]:
    """All that the store in the file at ``path`` holds."""

    async def read() -> dict[str, bytes]:
        store = SQLiteStore(path)
        try:
            return {entry.path: entry.value for entry in (await store.list(ROOT)).entries}
        finally:
            await store.close()

    return asyncio.run(read())


def bare(resource: Resource) -> tuple[object, ...]:
    """What the operator says of a resource: all but what the store adds."""
    tree = codec.to_builtins(resource)
    for added in ("uid", "creationTimestamp", "resourceVersion"):
        tree["metadata"].pop(added, None)
    return tree["apiVersion"], tree["kind"], tree["metadata"], tree.get("spec"), tree


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_applies_reads_back_equal_and_deletes(manifest: Path, run: Run, tmp_path: Path) -> None:
    """What is applied is what is read, and after its deletion the store holds what it held before."""
    written = [defaulted(each) for each in codec.load(manifest.read_text(), str(manifest))]
    database = tmp_path / "data" / "calico.db"
    run("apply", "-f", str(EXAMPLES / "lab" / "isolate-bank.yaml"))
    run("delete", "-f", str(EXAMPLES / "lab" / "isolate-bank.yaml"))
    before = stored(database)

    run("apply", "-f", str(manifest))
    run("apply", "-f", str(manifest))

    for output in ("yaml", "json"):
        got = run("get", "-f", str(manifest), "-o", output)
        read = {key_of(each): bare(each) for each in codec.load(got.stdout)}
        assert read == {key_of(each): bare(each) for each in written}

    run("delete", "-f", str(manifest))
    assert stored(database) == before


def test_examples_are_lessons() -> None:
    """There are thirty and more; each begins with what it teaches, and every kind that people write has one."""
    assert len(MANIFESTS) >= 30
    for manifest in MANIFESTS:
        assert manifest.read_text().startswith("# "), manifest

    shown = {each.kind for path in MANIFESTS for each in codec.load(path.read_text(), str(path))}
    assert KINDS.keys() - shown - MADE_BY_THE_SYSTEM == set()


@pytest.mark.parametrize("path", sorted(POLICY_TESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_policy_tests_pass_as_their_first_lines_say(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command in the comment at the top is what a reader tries first."""
    monkeypatch.chdir(EXAMPLES.parent)
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("#   calicoctl test "))
    result = run(*line.split()[2:])
    assert result.stdout.endswith(" passed\n")
