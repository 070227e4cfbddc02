"""Who may do what in an etcd: four roles, as values.

In:   the kinds and where they are stored; the prefix under which a cluster's data stands.
Out:  ``Role``, which says whether it may read or write a path; the etcdctl commands that make it.
Next: ``cli.access`` prints the commands, and an administrator of etcd runs them; nothing here does.

What an agent may write is listed, all else is denied: a kind that is new is denied until it stands in this list.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from calico.model.keys import IPAM, ROOT, kind_prefix

STATUS: Final = f"{ROOT}felix/v2/"
"""Where agents report how they are, and how their endpoints are."""

HOST_AFFINITIES: Final = f"{IPAM}host/"
"""Where hosts claim blocks. Blocks are claimed for others, too (``virtual/``), but not by agents."""

_WRITTEN_BY_AGENTS: Final = (
    kind_prefix("CalicoNodeStatus"),  # its status; the spec stands at the same key
    kind_prefix("IPAMBlock"),
    HOST_AFFINITIES,
    kind_prefix("IPAMHandle"),
    kind_prefix("Node"),
    kind_prefix("WorkloadEndpoint"),
    STATUS,
)


class Role(NamedTuple):
    """What its users may do, by prefixes of paths. They may read whatever stands under ``ROOT``."""

    name: str
    purpose: str
    writes: tuple[str, ...] = ()

    def may_read(self, path: str) -> bool:
        """Whether the role lets its users read what is at ``path``."""
        del self
        return path.startswith(ROOT)

    def may_write(self, path: str) -> bool:
        """Whether the role lets its users put and delete what is at ``path``."""
        return path.startswith(self.writes) if self.writes else False

    def called(self, prefix: str) -> str:
        """The role's name for the cluster under ``prefix``: each has roles of its own, as it has keys."""
        return f"{self.name}{prefix}"

    def commands(self, prefix: str = "") -> Iterator[str]:
        """The etcdctl commands that make the role. Those that grant do no harm where they were run before."""
        name = self.called(prefix)
        yield _command("role", "add", name)
        rights = [("readwrite", path) for path in self.writes]
        if ROOT not in self.writes:
            rights.insert(0, ("read", ROOT))
        for right, path in rights:
            yield _command("role", "grant-permission", "--prefix=true", name, right, f"{prefix}{path}")


AGENT: Final = Role(
    "calico-agent",
    "a host's agent, and what brings workloads to the host: reads everything; writes its status, nodes,"
    " workload endpoints and address assignments",
    _WRITTEN_BY_AGENTS,
)
HOST_ENDPOINTS: Final = Role(
    "calico-host-endpoints",
    "for agents besides their own role, where nodes get host endpoints by themselves: writes host endpoints, those of"
    " all hosts, which takes policy from them or puts it on them",
    (kind_prefix("HostEndpoint"),),
)
OPERATOR: Final = Role("calico-operator", "people and orchestrators: read and write everything", (ROOT,))
READER: Final = Role("calico-reader", "dashboards and auditors: read everything")

ROLES: Final = (AGENT, HOST_ENDPOINTS, OPERATOR, READER)


def user_commands(
    users: Iterable[tuple[str, Role]], prefix: str = "", *, certificates: bool = False
) -> Iterator[str]:
    """The etcdctl commands that make ``users`` and give each its role; one that stands there twice has both.

    A password is asked for; with ``certificates`` there is none, and whoever has a certificate with the name as its
    common name is the user.
    """
    made = set()
    for user, role in users:
        if user not in made:
            yield _command("user", "add", *(("--no-password",) if certificates else ()), user)
        made.add(user)
        yield _command("user", "grant-role", user, role.called(prefix))


def wrong_with_user(user: str) -> str:
    """Why etcdctl cannot make this user, in words; empty if it can."""
    if user == "root":
        return "root may do everything in etcd, whatever its roles; name another user"
    if ":" in user:  # etcdctl would take the rest for the password
        return f"{user!r} has a colon, which ends a user's name for etcdctl; name the user without it"
    if not user or user.startswith("-") or not user.isprintable() or user != user.strip():
        return f"{user!r} is no name for a user of etcd"
    return ""


def script(
    users: Iterable[tuple[str, Role]] = (), prefix: str = "", *, certificates: bool = False
) -> Iterator[str]:
    """The lines of a shell script that makes the roles under ``prefix``, and ``users``; with what there is to know."""
    yield "# The roles of Calico in etcd, to be read and then run by etcd's root:"
    yield "#   calicoctl datastore roles > roles.sh && sh roles.sh"
    yield "# etcdctl finds etcd by ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY, and logs in with"
    yield "# ETCDCTL_USER and ETCDCTL_PASSWORD. Where a role exists, 'role name already exists' is no error."
    for role in ROLES:
        yield ""
        yield f"# {role.called(prefix)}: {role.purpose}"
        yield from role.commands(prefix)
    yield ""
    if made := list(user_commands(users, prefix, certificates=certificates)):
        login = "their certificates bear their names" if certificates else "a password is asked for"
        yield f"# Users; {login}"
        yield from made
    else:
        yield "# A user, for example: calicoctl datastore roles --agent host-1 --operator alice"
    yield ""
    yield "# Roles count once etcd asks who its clients are. Where it does not yet, this makes it, for everybody:"
    yield "#   etcdctl user add root && etcdctl auth enable"


def _command(*words: str) -> str:
    return shlex.join(("etcdctl", *words))
