"""``calicoctl ipam release``: what is freed, and everything that is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from calico.datastore.sqlite import SQLiteStore
from calico.model.keys import Key
from support.calicoctl import Run, calicoctl_in
from support.ipam_pictures import SEQUENCE, Content, attribute, block, fill, sound

GONE = attribute("h.gone", pod="old", namespace="shop", node="b")
AGAIN = attribute("h.again", pod="new", namespace="shop", node="b")
Fill = Callable[[Content], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own, whose store has two leaked addresses and an idle handle; it is locked."""
    run = calicoctl_in(tmp_path, monkeypatch)
    _fill(tmp_path, leaking())
    return run


@pytest.fixture
def put(tmp_path: Path) -> Fill:
    """Put content into the store that ``run`` uses."""
    return lambda content: _fill(tmp_path, content)


def _fill(directory: Path, content: Content) -> None:
    async def work() -> None:
        store = SQLiteStore(directory / "data" / "calico.db")
        await fill(store, content)
        await store.close()

    asyncio.run(work())


def leaking() -> Content:
    """Two leaked addresses of one handle in one block, a handle without any, a locked store."""
    return sound().block(block("10.65.0.4/30", given={1: GONE, 2: GONE})).handle("h.left", {}).cluster()


def leaked(run: Run) -> list[str]:
    """The leaked addresses, and the handles without any, that a check finds now."""
    problems = json.loads(run("ipam", "check", "-o", "-").stdout)["problems"]
    return [each["subject"] for name in ("leaked", "handlesWithoutAddresses") for each in problems[name]]


def report(run: Run, file: str = "r.json", **changes: object) -> str:
    """The file of a new report, of which ``changes`` replace parts."""
    run("ipam", "check", "-o", file)
    if changes:
        tree = json.loads(Path(file).read_text()) | changes
        Path(file).write_text(json.dumps(tree))
    return file


# --- single addresses --------------------------------------------------------------------------------


def test_an_address_that_nobody_uses_is_freed(run: Run) -> None:
    """In Calico's words; its handle counts it no more."""
    done = run("ipam", "release", "--ip", "10.65.0.5").stdout
    assert done == "Successfully released IP address 10.65.0.5\n"
    assert leaked(run) == ["10.65.0.6", "h.left"]
    assert "handles that count otherwise" in run("ipam", "check").stdout
    assert json.loads(run("get", "ipamhandles", "h.gone", "-o", "json").stdout)["spec"]["block"] == {
        "10.65.0.4/30": 1
    }


def test_several_addresses_are_freed_at_once(run: Run) -> None:
    """The last one takes its handle along; an address that is named twice counts once."""
    words = [word for address in ("10.65.0.6", "10.65.0.5", "10.65.0.6") for word in ("--ip", address)]
    assert run("ipam", "release", *words).stdout.count("Successfully released") == 2
    assert leaked(run) == ["h.left"]
    assert "does not exist" in run("get", "ipamhandles", "h.gone", status=1).stderr


def test_an_address_that_is_not_assigned_is_an_error(run: Run) -> None:
    """As with Calico; the other addresses are not freed either."""
    failed = run("ipam", "release", "--ip", "10.65.0.5", "--ip", "10.65.0.7", status=1).stderr
    assert failed == "Error: IP address 10.65.0.7 is not assigned; nothing was freed\n"
    assert "10.65.0.5" in leaked(run)


def test_an_address_in_use_is_freed_by_force_alone(run: Run) -> None:
    """Else its user would soon share it."""
    failed = run("ipam", "release", "--ip", "10.65.0.0", status=1).stderr
    assert failed == (
        "Error: IP address 10.65.0.0 is in use: Workload(shop/web) uses it; delete who uses it, or add --force\n"
    )
    run("ipam", "release", "--ip", "10.65.0.0", "--force")
    assert "10.65.0.0 is not assigned" in run("ipam", "show", "--ip", "10.65.0.0").stdout


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--force"],
        ["--ip", "10.65.0.5", "--from-report", "r.json"],
        ["--ip", "x"],
        ["--ip", "10.0.0.0/8"],
    ],
)
def test_command_lines_that_make_no_sense(run: Run, words: list[str]) -> None:
    """Nothing, both ways at once, or no address."""
    run("ipam", "release", *words, status=2)
    assert len(leaked(run)) == 3


# --- reports -----------------------------------------------------------------------------------------


def test_what_a_report_found_leaked_is_freed(run: Run) -> None:
    """Addresses and handles, in Calico's words; nothing is left to be found."""
    done = run("ipam", "release", "--from-report", report(run)).stdout
    assert done == (
        "Releasing 2 old IPs...\nReleased 2 IPs successfully\nDeleting 1 handles...\n"
        "Released 1 handles; 0 skipped; 0 errors.\nYou may now unlock the data store.\n"
    )
    assert "found 0 problems" in run("ipam", "check").stdout
    done = run("ipam", "release", "--from-report", "r.json").stdout
    assert "Released 0 IPs successfully\n2 addresses marked as leaked in the report had already" in done
    assert "Released 0 handles; 1 skipped" in done


def test_a_report_without_leaks_frees_nothing(run: Run) -> None:
    """And says so."""
    run("ipam", "release", "--from-report", report(run))
    done = run("ipam", "release", "--from-report", report(run)).stdout
    assert "Report didn't contain any leaked IPs to clean up.\nReport didn't contain any handles" in done


def test_of_several_reports_only_what_all_found_is_freed(run: Run, put: Fill) -> None:
    """The address that was not leaked yet in the earlier one stays."""
    run("ipam", "release", "--ip", "10.65.0.6")
    earlier = report(run, "earlier.json")
    put(leaking())
    done = run("ipam", "release", "--from-report", earlier, "--from-report", report(run, "now.json"))
    assert "Releasing 1 old IPs..." in done.stdout
    assert "10.65.0.6" in leaked(run)


def test_what_is_in_use_by_now_stays(run: Run, put: Fill) -> None:
    """A report is older than the store, however new it is."""
    file = report(run)
    put(Content().workload("late", "b", "10.65.0.5"))
    done = run("ipam", "release", "--from-report", file).stdout
    assert "1 addresses marked as leaked in the report are in use now, and stay.\nReleasing 1 old IPs" in done
    assert "is in use" in run("ipam", "show", "--ip", "10.65.0.5").stdout


@pytest.mark.parametrize(
    "given",
    [
        block("10.65.0.4/30", given={1: AGAIN, 2: GONE}),
        block(
            "10.65.0.4/30",
            given={1: GONE, 2: GONE},
            sequence_number_for_allocation={"1": 7, "2": SEQUENCE + 2},
        ),
    ],
)
def test_what_was_given_anew_stays(run: Run, put: Fill, given) -> None:
    """To another handle, or to the same one at another time."""
    file = report(run)
    put(Content().block(given))
    done = run("ipam", "release", "--from-report", file).stdout
    assert (
        "Released 1 IPs successfully\n1 addresses were given anew since the report, and stay:\n  10.65.0.5: "
        in done
    )
    assert "10.65.0.5" in leaked(run)


def test_a_handle_that_somebody_is_at_stays(run: Run, put: Fill) -> None:
    """Whoever counts an address in it before the block gives it."""
    file = report(run)
    put(Content().handle("h.left", {"10.65.0.0/30": 1}))
    assert "Released 0 handles; 1 skipped" in run("ipam", "release", "--from-report", file).stdout
    assert "h.left" in leaked(run)


def test_a_report_of_another_cluster_is_refused_whatever_the_force(run: Run) -> None:
    """It knows nothing of this one."""
    file = report(run, clusterGUID="f" * 32)
    failed = run("ipam", "release", "--from-report", file, "--force", status=1).stderr
    assert "mismatched cluster GUID" in failed
    assert len(leaked(run)) == 3


def test_a_store_without_identity_follows_no_report(run: Run) -> None:
    """Two stores without one would look alike."""

    async def work() -> None:
        store = SQLiteStore(Path("data/calico.db"))
        await store.delete(Key("ClusterInformation", "default").path, revision=None)
        await store.close()

    asyncio.run(work())
    failed = run("ipam", "release", "--from-report", report(run), "--force", status=1).stderr
    assert "does not say which cluster it is" in failed


def test_stale_reports_are_refused_whatever_the_force(run: Run) -> None:
    """One of them must be of the ClusterInformation of now; locking makes it anew."""
    old = report(run, "old.json")
    run("datastore", "migrate", "unlock")
    run("datastore", "migrate", "lock")
    failed = run("ipam", "release", "--from-report", old, "--force", status=1).stderr
    assert "are all stale" in failed
    assert len(leaked(run)) == 3
    run("ipam", "release", "--from-report", old, "--from-report", report(run, "now.json"))
    assert leaked(run) == []


@pytest.mark.parametrize(
    ("changes", "error", "warning"),
    [
        ({"version": "v3.29.0"}, "different version (v3.29.0)", "using a different version"),
        ({"problems": {"unreadable": [{}]}}, "records could not be read", "could not be read"),
    ],
)
def test_a_doubtful_report_is_followed_by_force_alone(
    run: Run, changes: dict[str, object], error: str, warning: str
) -> None:
    """Of another version, or made where something could not be read; a warning says what was overridden."""
    file = report(run, **changes)
    assert error in run("ipam", "release", "--from-report", file, status=1).stderr
    assert len(leaked(run)) == 3
    forced = run("ipam", "release", "--from-report", file, "--force").stderr
    assert "WARNING: " in forced
    assert warning in forced
    assert leaked(run) == []


def test_an_unlocked_store_is_changed_by_force_alone(run: Run) -> None:
    """What is given meanwhile might look leaked."""
    run("datastore", "migrate", "unlock")
    file = report(run)
    assert "data store is not locked" in run("ipam", "release", "--from-report", file, status=1).stderr
    assert len(leaked(run)) == 3
    assert (
        "WARNING: Data store is not locked."
        in run("ipam", "release", "--from-report", file, "--force").stderr
    )
    assert leaked(run) == []


def test_what_is_no_report_is_refused(run: Run, tmp_path: Path) -> None:
    """Also where one of several is none: nothing is freed."""
    (tmp_path / "none.json").write_text("{}")
    file = report(run)
    failed = run("ipam", "release", "--from-report", file, "--from-report", "none.json", status=1).stderr
    assert "none.json is no report" in failed
    assert "No such file" in run("ipam", "release", "--from-report", "missing", status=1).stderr
    assert len(leaked(run)) == 3
