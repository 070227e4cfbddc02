"""``calicoctl ipam``: what is shown, checked, explained, set and split."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from calico.cli import ipam_ping
from calico.cli.ipam_source import bar, bordered
from calico.cli.main import root
from calico.datastore.sqlite import SQLiteStore
from calico.model.address import Cidr, parse_address
from calico.model.keys import Key
from support.calicoctl import Run, calicoctl_in
from support.ipam_pictures import Content, attribute, block, fill, sound

GONE = attribute("h.gone", pod="old", namespace="shop", node="b", timestamp="2026-01-01 10:00:00 +0000 UTC")
Fill = Callable[[Content], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


@pytest.fixture
def put(run: Run, tmp_path: Path) -> Fill:
    """Put content into the store that ``run`` uses."""
    del run

    def filled(content: Content) -> None:
        async def work() -> None:
            store = SQLiteStore(tmp_path / "data" / "calico.db")
            await fill(store, content)
            await store.close()

        asyncio.run(work())

    return filled


def leaking() -> Content:
    """One address in use, one leaked by a host that borrowed it."""
    return sound().block(block("10.65.0.4/30", "host:a", {1: GONE})).cluster()


# --- show --------------------------------------------------------------------------------------------


def test_pools_are_shown_as_calico_shows_them(run: Run, put: Fill) -> None:
    """With what is used as a bar behind it; blocks below their pool when they are asked for."""
    put(leaking())
    assert run("ipam", "show", "--show-blocks").stdout == (
        "+----------+--------------+-----------+------------+--------------+----------------------+\n"
        "| GROUPING | CIDR         | IPS TOTAL | IPS IN USE |     IPS FREE | USED                 |\n"
        "+----------+--------------+-----------+------------+--------------+----------------------+\n"
        "| IP Pool  | 10.65.0.0/16 |     65536 |     2 (0%) | 65534 (100%) | #................... |\n"
        "| Block    | 10.65.0.0/30 |         4 |    1 (25%) |      3 (75%) | #####............... |\n"
        "| Block    | 10.65.0.4/30 |         4 |    1 (25%) |      3 (75%) | #####............... |\n"
        "+----------+--------------+-----------+------------+--------------+----------------------+\n"
    )


def test_wide_has_reserved_and_cooling_addresses_and_hosts(run: Run, put: Fill) -> None:
    """Hosts that are gone and have addresses are marked; --by-host shows them without the rest."""
    put(leaking().reservation("r", ["10.65.0.3/32"]).block(block("10.65.0.8/30", "host:z")))
    wide = run("ipam", "show", "-o", "wide").stdout
    assert "| IPS IN USE | IPS RESERVED |     IPS FREE | IPS COOLING |" in wide
    assert "| a        |      2 |" in wide
    assert "| z (gone) |      1 |" in wide
    assert "IPS RESERVED" not in run("ipam", "show", "--by-host").stdout
    assert "z (gone)" in run("ipam", "show", "--by-host").stdout


def test_programs_get_exact_numbers(run: Run, put: Fill) -> None:
    """JSON and YAML say the same; blocks of no pool have one without a name."""
    put(leaking().pool("six", "fd00::/48").block(block("172.16.0.0/30")))
    tree = json.loads(run("ipam", "show", "-o", "json", "--show-blocks", "--by-host").stdout)
    assert tree == yaml.safe_load(run("ipam", "show", "-o", "yaml", "--show-blocks", "--by-host").stdout)
    assert [each["name"] for each in tree["pools"]] == ["all", "six", None]
    assert tree["pools"][1]["free"] == 1 << 80
    assert tree["pools"][0]["blocks"][1] == {
        "cidr": "10.65.0.4/30", "affinity": "host:a", "total": 4, "inUse": 1, "reserved": 0, "free": 3, "cooling": 0,
    }  # fmt: skip
    assert tree["hosts"][1] == {
        "name": "b", "exists": True, "blocks": 0, "total": 0, "inUse": 0, "free": 0, "borrowed": 1, "lent": 0,
    }  # fmt: skip


def test_one_address_is_shown_as_calico_shows_it(run: Run, put: Fill) -> None:
    """In use with its attributes, or not assigned; and what cools down, which is nobody's."""
    put(
        leaking().block(block("10.65.0.8/30", given={0: attribute(None, released_at="2026-01-01T00:00:00Z")}))
    )
    assert run("ipam", "show", "--ip", "10.65.0.5").stdout == (
        "IP 10.65.0.5 is in use\nHandle ID: h.gone\nActive Owner Attributes:\n  namespace: shop\n  node: b\n"
        "  pod: old\n  timestamp: 2026-01-01 10:00:00 +0000 UTC\n"
    )
    assert run("ipam", "show", "--ip", "10.65.0.6").stdout == "10.65.0.6 is not assigned\n"
    assert "was released at 2026-01-01T00:00:00Z" in run("ipam", "show", "--ip", "10.65.0.8").stdout
    assert json.loads(run("ipam", "show", "--ip", "10.65.0.5", "-o", "json").stdout)["handle"] == "h.gone"


def test_borrowed_addresses_are_shown(run: Run, put: Fill) -> None:
    """Who borrows what from whom; and how many addresses do not say whose they are."""
    put(
        leaking().block(
            block("10.65.0.8/30", None, {0: attribute("h.x"), 1: attribute("t", node="b", type="ipip")})
        )
    )
    shown = run("ipam", "show", "--show-borrowed").stdout
    assert "| 10.65.0.5 | b              | 10.65.0.4/30 | a           | pod  | shop/old     |" in shown
    assert "| 10.65.0.9 | b              | 10.65.0.8/30 |             | ipip |              |" in shown
    assert "Note: 1 addresses were given without saying to which node" in shown
    tree = json.loads(run("ipam", "show", "--show-borrowed", "-o", "json").stdout)
    assert (tree["withoutNode"], len(tree["borrowed"])) == (1, 2)


def test_the_settings_are_shown(run: Run, put: Fill) -> None:
    """What holds, also where nobody set anything."""
    put(sound())
    assert "| StrictAffinity               | false   |" in run("ipam", "show", "--show-configuration").stdout
    tree = json.loads(run("ipam", "show", "--show-configuration", "-o", "json").stdout)
    assert tree == {
        "strictAffinity": False,
        "autoAllocateBlocks": True,
        "maxBlocksPerHost": 0,
        "kubeVirtVMAddressPersistence": "Enabled",
        "ipCooldownSeconds": 0,
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "--ip", "10.0.0.0/8"], "is a prefix with many addresses"),
        (["show", "--ip", "x"], "is no IPv4 or IPv6 address"),
        (["show", "--ip", "10.0.0.1", "--show-borrowed"], "--ip stands alone"),
        (["show", "--show-configuration", "--by-host"], "--show-configuration stands alone"),
        (["why"], "Missing argument"),
        (["why", "1.2.3"], "is no IPv4 or IPv6 address"),
        (["configure"], "say what to change: --strictaffinity"),
        (["configure", "--ip-cooldown-seconds", "1201"], "is not in the range"),
        (["configure", "--strictaffinity", "perhaps"], "is not a valid boolean"),
        (["split", "2"], "say which pool"),
        (["split", "2", "--name", "a", "--cidr", "10.0.0.0/8"], "say which pool"),
        (["check", "--kubeconfig", "x"], "the Kubernetes API is not asked here"),
    ],
)
def test_command_lines_that_make_no_sense(run: Run, words: list[str], sentence: str) -> None:
    """Status 2, and what to write."""
    assert sentence in run("ipam", *words, status=2).stderr


def test_looking_makes_no_store(run: Run, tmp_path: Path) -> None:
    """An empty one is shown."""
    for words in (["show"], ["check"], ["why", "10.0.0.1"]):
        assert "there is no store" in run("ipam", *words).stderr
    assert not (tmp_path / "data").exists()


def test_an_export_and_a_backup_are_looked_into(run: Run, put: Fill, tmp_path: Path) -> None:
    """With -f, and no store is asked."""
    put(leaking())
    (tmp_path / "everything").write_text(run("datastore", "migrate", "export").stdout)
    run("backup", "saved")
    (tmp_path / "data" / "calico.db").unlink()
    for file in ("everything", "saved"):
        assert "found 1 problems" in run("ipam", "check", "-f", file).stdout
        assert "leaked, unless" in run("ipam", "why", "10.65.0.5", "-f", file).stdout
        assert "IP Pool" in run("ipam", "show", "-f", file).stdout
    assert "No such file" in run("ipam", "show", "-f", "none", status=1).stderr
    (tmp_path / "other").write_bytes(b"\xff\xfe")
    assert "neither an export nor a backup" in run("ipam", "show", "-f", "other", status=1).stderr
    failed = json.loads(run("ipam", "show", "-o", "json", "-f", "none", status=1).stdout)
    assert "No such file" in failed["problems"][0]["message"]


# --- check -------------------------------------------------------------------------------------------


def test_a_check_says_what_calicos_says(run: Run, put: Fill) -> None:
    """Programs look for its sentences; the exit status is 0 whatever was found."""
    put(leaking().handle("h.left", {}))
    lines = run("ipam", "check").stdout.splitlines()
    for line in (
        "Checking IPAM for inconsistencies...",
        "Found 2 IPAM blocks.",
        "IPAM blocks record 2 allocations.",
        "Found 1 active IP pools.",
        "  a has 1 allocations",
        "Node with most allocations has 1; median is 1",
        "Found 1 IPs that are allocated in IPAM but not actually in use.",
        "Found 0 in-use IPs that are not in active IP pools.",
        "Found 0 in-use IPs that are in active IP pools but have no corresponding IPAM allocation.",
        "Found 1 handles with no matching IPs (and 2 handles with matches).",
        "Found 0 handles mentioned in blocks with no matching handle resource.",
    ):
        assert line in lines
    assert lines[-1] == "Check complete; found 2 problems."
    assert not any("10.65.0.5" in line for line in lines)


def test_addresses_are_listed_when_they_are_asked_for(run: Run, put: Fill) -> None:
    """Those with problems, or all."""
    put(leaking())
    problems = run("ipam", "check", "--show-problem-ips").stdout
    leaked = "  10.65.0.5 leaked; attrs Main:h.gone Extra:namespace=shop,node=b,pod=old,timestamp="
    assert leaked in problems
    assert "10.65.0.0 allocated" not in problems
    everything = run("ipam", "check", "--show-all-ips").stdout
    assert leaked in everything
    assert " IPAM block 10.65.0.0/30 affinity=host:a:\n  10.65.0.0 allocated; attrs Main:h.web" in everything
    assert "  10.65.0.0 belongs to Workload(shop/web)" in everything


def test_what_cannot_be_read_is_always_said(run: Run, put: Fill) -> None:
    """It may make the rest wrong."""
    put(leaking().add((Key("IPAMBlock", "10.65.0.8/30"), b"{")))
    assert "/calico/ipam/v2/assignment/ipv4/block/10.65.0.8-30 cannot be read" in run("ipam", "check").stdout


def test_the_report_is_written(run: Run, put: Fill, tmp_path: Path) -> None:
    """To a file, beside the text; or to standard output, in its place."""
    put(leaking())
    assert run("ipam", "check", "-o", "r.json").stdout.endswith("Check complete; found 1 problems.\n")
    tree = json.loads((tmp_path / "r.json").read_text())
    assert tree == json.loads(run("ipam", "check", "-o", "-").stdout)
    assert tree["allocations"]["10.65.0.5"][0]["inUse"] is False
    assert "the report was not written" in run("ipam", "check", "-o", "no/where", status=1).stderr


# --- why ---------------------------------------------------------------------------------------------


def test_why_tells_everything_of_a_leaked_address(run: Run, put: Fill) -> None:
    """A sentence first; then owner, handle, node, time and request, block, lender and pool."""
    put(leaking())
    assert run("ipam", "why", "10.65.0.5").stdout == (
        "10.65.0.5 is given to shop/old, who does not use it: leaked, unless it was given just now\n"
        "  alive     no: shop/old is gone: there is no endpoint or pod of that name\n"
        "  handle    h.gone\n"
        "  node      b\n"
        "  given     2026-01-01 10:00:00 +0000 UTC, by the request with namespace=shop, node=b, pod=old,"
        " timestamp=2026-01-01 10:00:00 +0000 UTC\n"
        "  sequence  1001\n"
        "  block     10.65.0.4/30, which is host a's\n"
        "  borrowed  by b from a\n"
        "  pool      all (10.65.0.0/16)\n"
    )


@pytest.mark.parametrize(
    ("address", "sentences"),
    [
        ("10.65.0.0", ["is given to shop/web\n", "yes: Workload(shop/web) uses it"]),
        ("10.65.0.1", ["is free\n", "the next that its block gives, of 2 that are free"]),
        ("10.65.0.2", ["is free\n", "given after 1 others, of 2 that are free"]),
        ("10.65.0.3", ["is kept free by IPReservation r: nobody gets it unasked"]),
        ("10.65.9.9", ["is free: no host has claimed a block with it yet"]),
        ("192.0.2.1", ["is in no pool, so IPAM does not give it"]),
        ("10.65.0.8", ["was released, and cools down", "given again from 2"]),
        ("10.65.0.9", ["is given to virtual machine shop/vm\n", "unknown: it is kept for"]),
        ("10.65.0.10", ["is given to node b as ipip, who does not use it"]),
        ("10.65.0.11", ["is given to handle h.bare, who does not use it"]),
        ("172.16.0.1", ["which is nobody's", "none: the pool that the block came from is gone"]),
        ("10.65.5.5", ["Workload(shop/thief) uses it, though IPAM gave it to nobody"]),
    ],
)
def test_why_tells_of_every_state(run: Run, put: Fill, address: str, sentences: list[str]) -> None:
    """Each state of an address has its sentence, and what follows from it."""
    given = {
        0: attribute(None, released_at="2999-01-01T00:00:00Z"),
        1: attribute("h.vm", **{"vmi-name": "vm", "namespace": "shop", "node": "a"}),
        2: attribute("h.tunnel", type="ipip", node="b"),
        3: attribute("h.bare"),
    }
    content = leaking().reservation("r", ["10.65.0.3/32"]).configuration(ip_cooldown_seconds=60)
    put(
        content.block(block("10.65.0.8/30", given=given))
        .block(block("172.16.0.0/30", None))
        .workload("thief", "b", "10.65.5.5")
    )
    shown = run("ipam", "why", address).stdout
    assert [each for each in sentences if each not in shown] == [], shown


def test_why_for_programs(run: Run, put: Fill) -> None:
    """What does not apply is left out; address and state never are."""
    put(leaking())
    assert json.loads(run("ipam", "why", "192.0.2.1", "-o", "json").stdout) == {
        "address": "192.0.2.1",
        "state": "outside",
    }
    tree = json.loads(run("ipam", "why", "10.65.0.5", "-o", "json").stdout)
    assert (tree["state"], tree["borrowedFrom"], tree["alive"]["alive"]) == ("allocated", "a", False)
    assert json.loads(run("ipam", "why", "10.65.0.1", "-o", "json").stdout)["next"] == {
        "before": 0,
        "free": 3,
    }


def test_why_asks_the_address_itself(run: Run, put: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --ping, as long as --wait says; the answer is part of the account."""
    asked: list[tuple[Cidr, float]] = []

    def echo(address: Cidr, wait: float) -> ipam_ping.Answer:
        asked.append((address, wait))
        return ipam_ping.Answer(answers=False, detail="not within 2 s")

    monkeypatch.setattr(ipam_ping, "echo", echo)
    put(leaking())
    assert (
        "  answers   no: not within 2 s\n" in run("ipam", "why", "10.65.0.5", "--ping", "--wait", "2").stdout
    )
    tree = json.loads(run("ipam", "why", "10.65.0.5", "--ping", "-o", "json").stdout)
    assert tree["answers"] == {"answers": False, "detail": "not within 2 s"}
    assert asked == [(parse_address("10.65.0.5"), 2), (parse_address("10.65.0.5"), 1)]


def test_the_checksum_of_echoes_is_the_internets() -> None:
    """A packet with its checksum in place sums up to nothing."""
    bare = bytes([8, 0, 0, 0]) + bytes(range(8)) + b"\xff" * 16
    placed = bare[:2] + ipam_ping.checksum(bare).to_bytes(2, "big") + bare[4:]
    assert (ipam_ping.checksum(bare) == 0, ipam_ping.checksum(placed)) == (False, 0)


# --- configure ---------------------------------------------------------------------------------------


def test_settings_are_changed_one_by_one(run: Run) -> None:
    """Those that are not named stay; the first one makes them all."""
    assert (
        run("ipam", "configure", "--strictaffinity=true").stdout
        == "Successfully set StrictAffinity to: true\n"
    )
    done = run("ipam", "configure", "--max-blocks-per-host=4", "--kubevirt-ip-persistence=Disabled")
    assert done.stdout == (
        "Successfully set MaxBlocksPerHost to: 4\nSuccessfully set KubeVirtVMAddressPersistence to: Disabled\n"
    )
    run("ipam", "configure", "--ip-cooldown-seconds=1200")
    assert json.loads(run("ipam", "show", "--show-configuration", "-o", "json").stdout) == {
        "strictAffinity": True,
        "autoAllocateBlocks": True,
        "maxBlocksPerHost": 4,
        "kubeVirtVMAddressPersistence": "Disabled",
        "ipCooldownSeconds": 1200,
    }


def test_settings_that_contradict_each_other_are_refused(run: Run) -> None:
    """With the field and what would be right, as of a manifest; nothing is changed."""
    refused = run("ipam", "configure", "--max-blocks-per-host=4", status=1).stderr
    assert "IPAMConfiguration/default: spec.maxBlocksPerHost: a host that may borrow" in refused
    run("ipam", "configure", "--strictaffinity=true", "--max-blocks-per-host=4")
    assert "spec.maxBlocksPerHost" in run("ipam", "configure", "--strictaffinity=false", status=1).stderr
    assert (
        json.loads(run("ipam", "show", "--show-configuration", "-o", "json").stdout)["strictAffinity"] is True
    )


# --- split -------------------------------------------------------------------------------------------


def test_a_pool_is_split(run: Run, put: Fill) -> None:
    """On a locked store alone; blocks, claims and addresses are as before, and lie in the new pools."""
    put(leaking().cluster(locked=False))
    assert "calicoctl datastore migrate lock" in run("ipam", "split", "2", "--name", "all", status=1).stderr
    run("datastore", "migrate", "lock")
    blocks = run("get", "ipamblocks", "-o", "json").stdout
    done = run("ipam", "split", "2", "--cidr", "10.65.0.0/16").stdout
    assert done.startswith(
        "IP Pool all was successfully split into 2 smaller pools.\n"
        "Created split-all-0 with CIDR 10.65.0.0/17.\nCreated split-all-1 with CIDR 10.65.128.0/17.\n"
    )
    pools = json.loads(run("get", "ippools", "-o", "json").stdout)["items"]
    assert [(each["metadata"]["name"], each["spec"].get("disabled", False)) for each in pools] == [
        ("split-all-0", False),
        ("split-all-1", False),
    ]
    assert run("get", "ipamblocks", "-o", "json").stdout == blocks
    assert "found 1 problems" in run("ipam", "check").stdout


def test_a_split_that_was_broken_off_goes_on(run: Run, put: Fill) -> None:
    """The old pool is disabled, one new one is there: the same command makes the rest."""
    put(leaking())
    put(Content().pool("all", "10.65.0.0/16", disabled=True).pool("split-all-0", "10.65.0.0/17"))
    run("ipam", "split", "2", "--name", "all")
    names = [
        each["metadata"]["name"] for each in json.loads(run("get", "ippools", "-o", "json").stdout)["items"]
    ]
    assert names == ["split-all-0", "split-all-1"]
    again = run("ipam", "split", "2", "--name", "all", status=1).stderr
    assert "it was split before, into split-all-0, split-all-1" in again


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["3", "--name", "all"], "3 is no power of 2"),
        (["4096", "--name", "all"], "blocks of /26"),
        (["2", "--name", "none"], "unable to find IP pool with name none"),
        (["2", "--cidr", "10.0.0.0/8"], "unable to find IP pool with the CIDR 10.0.0.0/8"),
    ],
)
def test_a_split_that_cannot_be_changes_nothing(run: Run, put: Fill, words: list[str], sentence: str) -> None:
    """The pool is not even disabled."""
    put(leaking())
    before = run("get", "ippools", "-o", "json").stdout
    assert sentence in run("ipam", "split", *words, status=1).stderr
    assert run("get", "ippools", "-o", "json").stdout == before


# --- shapes ------------------------------------------------------------------------------------------


def test_bars_show_a_little_and_nearly_all() -> None:
    """Only nothing is empty, and only all is full."""
    assert [bar(part, 1000).count("#") for part in (0, 1, 500, 999, 1000)] == [0, 1, 10, 19, 20]
    assert bar(0, 0) == "." * 20


def test_tables_keep_terminals_safe() -> None:
    """Whatever was stored stays on its line."""
    assert "\x1b" not in bordered(["A"], [["x\x1b[31m\ny"]])


def test_the_commands_are_those_of_calico_and_why() -> None:
    """And each has a help of its own."""
    group = root.get_command(click.Context(root), "ipam")
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == ["check", "configure", "release", "show", "split", "why"]
    assert all(each.help and each.epilog for each in group.commands.values())
