"""What the roles let their users do, and the commands that make them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from calico.datastore.access import (
    AGENT,
    OPERATOR,
    READER,
    ROLES,
    Role,
    script,
    user_commands,
    wrong_with_user,
)
from calico.datastore.api import Denied
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.datastore.writing import Batch, Verb
from calico.model.keys import KINDS, Key, key_of
from calico.model.node import Node
from calico.model.resource import Metadata
from support.builders import pool
from support.roles import AGENTS, OTHERS, STATUS, paths, sample


def test_agents_write_these_kinds_and_no_others() -> None:
    """A kind is denied to agents unless it is known to be theirs, so a new one is denied."""
    assert {kind for kind in KINDS if AGENT.may_write(sample(kind).path)} == AGENTS


@pytest.mark.parametrize("path", STATUS)
def test_agents_report_their_status(path: str) -> None:
    """Where agents report they may write."""
    assert AGENT.may_write(path)


@pytest.mark.parametrize("path", OTHERS)
def test_agents_write_nothing_beside_their_keys(path: str) -> None:
    """What only begins like an agent's keys, or is of nobody we know, is denied."""
    assert not AGENT.may_write(path)


def test_everybody_reads_and_one_writes_everything() -> None:
    """All roles read all of the cluster and nothing beside it; an operator writes it, a reader nothing of it."""
    for path in paths():
        assert all(role.may_read(path) for role in ROLES)
        assert OPERATOR.may_write(path)
        assert not READER.may_write(path)
    for role in ROLES:
        assert not role.may_read("/registry/secrets")
        assert not role.may_write("/calico")


def test_commands_of_a_role() -> None:
    """A role is made, may read all, and may write what it writes; what it writes it need not be let read again."""
    few = Role("few", "", ("/calico/a/",))

    assert list(few.commands()) == [
        "etcdctl role add few",
        "etcdctl role grant-permission --prefix=true few read /calico/",
        "etcdctl role grant-permission --prefix=true few readwrite /calico/a/",
    ]
    assert list(OPERATOR.commands()) == [
        "etcdctl role add calico-operator",
        "etcdctl role grant-permission --prefix=true calico-operator readwrite /calico/",
    ]


def test_clusters_that_share_an_etcd_share_no_role() -> None:
    """Under a prefix a role has a name of its own, or one cluster's agents could write in another."""
    commands = list(READER.commands("/my cluster"))

    assert commands == [
        "etcdctl role add 'calico-reader/my cluster'",
        "etcdctl role grant-permission --prefix=true 'calico-reader/my cluster' read '/my cluster/calico/'",
    ]
    assert list(user_commands([("x", READER)], "/b"))[-1] == "etcdctl user grant-role x calico-reader/b"


def test_users() -> None:
    """A user is made once, has all roles that it is given, and no password where it has a certificate."""
    both = [("alice", OPERATOR), ("alice", READER)]

    assert list(user_commands(both, certificates=True)) == [
        "etcdctl user add --no-password alice",
        "etcdctl user grant-role alice calico-operator",
        "etcdctl user grant-role alice calico-reader",
    ]
    assert next(user_commands(both)) == "etcdctl user add alice"


@pytest.mark.parametrize("user", ["root", "a:b", "", "-x", "a\nb", " a"])
def test_names_that_are_no_users(user: str) -> None:
    """A name that etcdctl would take for something else, or that needs no role, is refused."""
    assert wrong_with_user(user)


@pytest.mark.parametrize("user", ["host-1", "host-1.example.com", "al ice", "büro"])
def test_names_of_users(user: str) -> None:
    """Names of hosts and people are names of users."""
    assert not wrong_with_user(user)


def test_script_makes_every_role_and_nothing_else() -> None:
    """What is not a comment is an etcdctl command; nothing switches the asking for users on."""
    lines = [line for line in script([("a", AGENT)]) if line and not line.startswith("#")]

    expected = [command for role in ROLES for command in role.commands()]
    assert lines == [*expected, *user_commands([("a", AGENT)])]
    assert not any("auth enable" in line for line in lines)


def test_documentation_shows_the_commands() -> None:
    """What an administrator reads before running it is what is printed."""
    text = (Path(__file__).parents[3] / "docs/operate/access.md").read_text(encoding="utf-8")
    shown = [line.strip() for line in text.splitlines() if line.startswith("    etcdctl ")]

    roles = [command for role in ROLES for command in role.commands()]
    assert shown == [*roles, *user_commands([("host-1", AGENT)])]


class Guarded(FaultyStore):
    """A store that lets its user do what ``role`` allows."""

    def __init__(self, role: Role) -> None:
        super().__init__(MemoryStore())
        self.role = role

    def _judge(self, path: str) -> None:
        if not self.role.may_write(path):
            raise Denied(f"not {path}")

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        self._judge(path)
        return await super().create(path, value, lease=lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        self._judge(path)
        return await super().put(path, value, revision=revision, lease=lease)


def test_what_is_denied_of_a_batch_keeps_nobody_from_the_rest() -> None:
    """A user that may write some of a batch writes that; of the others each is told where it is denied."""
    store = Guarded(AGENT)
    nodes = [Node(metadata=Metadata(name=name)) for name in ("a", "b")]
    pools = [pool("one", "10.1.0.0/16"), pool("two", "10.2.0.0/16")]

    async def body() -> None:
        outcomes = await Batch(store).write([pools[0], nodes[0], pools[1], nodes[1]], Verb.APPLY)
        assert [str(outcome) for outcome in outcomes] == [
            f"not {key_of(pools[0]).path}", "None", f"not {key_of(pools[1]).path}", "None",
        ]  # fmt: skip
        assert await Resources(store).get(Key("Node", "b"))
        assert not await Resources(store).list("Tier"), "which others will make"

    asyncio.run(body())
