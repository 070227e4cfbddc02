"""What iptables-save says, compared with what should be, and the text that mends the difference."""

from __future__ import annotations

import re

import pytest

from calico.ruleset.iptables import Image, Jumps, hashed
from calico.ruleset.iptables_save import (
    Edit,
    Fault,
    Saved,
    Truncated,
    compare,
    difference,
    hashes,
    parse,
    restore,
)

RULES = hashed("cali-FORWARD", ["-i cali+ -j DROP", "-j ACCEPT"])
TOP = hashed("FORWARD", ["-j cali-FORWARD"])
IMAGE = Image({"cali-FORWARD": RULES}, {"FORWARD": Jumps(top=TOP)})
THEIRS = '-s 10.0.0.1/32 -m comment --comment "drop" -j DROP'


def as_saved(rule: str) -> str:
    """The kernel's spelling of a rule of ours: its comment is in quotes."""
    return re.sub(r"--comment (\S+)", r'--comment "\1"', rule)


SAVED_RULES = [as_saved(rule) for rule in RULES]
SEEN = {"cali-FORWARD": tuple(SAVED_RULES)}


def saved(*forward: str, ours: list[str] | None = None) -> Saved:
    return Saved(
        {"INPUT": [], "FORWARD": list(forward), "cali-FORWARD": SAVED_RULES if ours is None else ours}
    )


def test_tables_chains_and_rules_are_read() -> None:
    """Each table has its chains, those of the kernel and those without rules too."""
    text = (
        "# x\n*filter\n:FORWARD ACCEPT [0:0]\n:cali-a - [0:0]\n-A FORWARD -j cali-a\nCOMMIT\n*nat\nCOMMIT\n"
    )
    found = parse(text)
    assert {name: table.chains for name, table in found.items()} == {
        "filter": {"FORWARD": ["-j cali-a"], "cali-a": []},
        "nat": {},
    }


@pytest.mark.parametrize("text", ["*filter\n:FORWARD ACCEPT [0:0]\n", "*filter\n*nat\nCOMMIT\n"])
def test_half_an_output_is_an_error(text: str) -> None:
    """A program that died on the way must not be taken for one that found nothing."""
    with pytest.raises(Truncated):
        parse(text)


def test_what_is_right_needs_nothing() -> None:
    """Our jump at the top, the foreign rules behind it, our chain as written: no edit."""
    edit = compare(IMAGE, saved(as_saved(TOP[0]), THEIRS), SEEN)
    assert (bool(edit), edit.faults) == (False, [])


def test_an_unseen_chain_is_written_but_not_reported() -> None:
    """The right hashes with a text that we never saw: it may have been edited, so it is written again."""
    edit = compare(IMAGE, saved(as_saved(TOP[0])), {})
    assert (edit.write, edit.faults) == ({"cali-FORWARD"}, [])


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        (SAVED_RULES[:1], "changed"),
        ([SAVED_RULES[1], SAVED_RULES[0]], "changed"),
        ([*SAVED_RULES, "-j ACCEPT"], "changed"),
        ([SAVED_RULES[0].replace("DROP", "ACCEPT"), SAVED_RULES[1]], "changed"),
    ],
    ids=["deleted", "reordered", "added", "edited in place"],
)
def test_edited_chains_are_found(ours: list[str], found: str) -> None:
    """Missing, moved, additional and edited rules: the chain is named and written again, whole."""
    edit = compare(IMAGE, saved(as_saved(TOP[0]), ours=ours), SEEN)
    assert edit.faults == [Fault("cali-FORWARD", found)]
    assert edit.write == {"cali-FORWARD"}


def test_jumps_are_put_back_to_the_top() -> None:
    """A foreign rule above ours is left where it is; ours is taken out and put in at the top."""
    edit = compare(IMAGE, saved(THEIRS, as_saved(TOP[0])), SEEN)
    assert edit.faults == [Fault("FORWARD", "changed")]
    text = restore("filter", edit, IMAGE).splitlines()
    assert text == ["*filter", f"-D FORWARD {as_saved(TOP[0])}", f"-I FORWARD 1 {TOP[0]}", "COMMIT"]


def test_old_jumps_and_chains_are_taken_away() -> None:
    """Chains of ours that are not desired go, with whatever calls them, wherever that is."""
    held = Saved({"FORWARD": ["-j cali-old", THEIRS], "USER": ["-g cali-old"], "cali-old": ["-j DROP"]})
    edit = compare(Image(), held, {})
    text = restore("filter", edit, Image()).splitlines()
    assert text == [
        "*filter",
        ":cali-old - -",
        "-D FORWARD -j cali-old",
        "-D USER -g cali-old",
        "-X cali-old",
        "COMMIT",
    ]


def test_a_missing_table_is_all_missing() -> None:
    """Without the table everything is missing, and written."""
    edit = compare(IMAGE, None, SEEN)
    assert edit.faults == [Fault("cali-FORWARD", "missing"), Fault("FORWARD", "missing")]


def test_a_change_writes_what_differs() -> None:
    """Between two images only changed chains are written, gone ones deleted, and changed jumps set anew."""
    new = Image({"cali-new": ("-j DROP",), "cali-FORWARD": RULES}, {"FORWARD": Jumps(bottom=TOP)})
    edit = difference(IMAGE, new)
    assert edit == Edit(write={"cali-new"}, delete=set(), calls={"FORWARD": [TOP[0]]})
    assert restore("filter", edit, new).splitlines()[-3:] == [
        f"-D FORWARD {TOP[0]}",
        f"-A FORWARD {TOP[0]}",
        "COMMIT",
    ]
    assert not difference(new, new)


def test_hashes_are_chained() -> None:
    """A rule's hash depends on its chain, its text and every rule before it."""
    one = hashes(hashed("cali-a", ["-j DROP", "-j ACCEPT"]))
    assert hashes(hashed("cali-a", ["-j DROP", "-j RETURN"]))[0] == one[0]
    assert hashes(hashed("cali-a", ["-j RETURN", "-j ACCEPT"]))[1] != one[1]
    assert hashes(hashed("cali-b", ["-j DROP"])) != one[:1]
    assert hashes(["-j DROP"]) == [""]
