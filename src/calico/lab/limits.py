"""The kernel's limits on neighbour tables, which all namespaces of a machine share.

In:   how many entries the labs of this machine need.
Out:  raised limits, the old ones recorded in the directory of all labs, and put back by the last lab that leaves.

Only ``gc_thresh1/2/3`` of the initial namespace are touched, only upwards, only where they are too low. A container
with a network namespace of its own does not see them; there it is only said what a lab needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

SETTINGS: Final = Path("/proc/sys/net")
RAISED: Final = {"gc_thresh1": 8192, "gc_thresh2": 16384, "gc_thresh3": 32768}
FAMILIES: Final = ("ipv4", "ipv6")
USUAL: Final = 512
"""What the kernel starts with as ``gc_thresh2``."""
RECORD: Final = "neighbour-limits.json"


def ensure(root: Path, entries: int, say: Callable[[str], None], *, settings: Path = SETTINGS) -> None:
    """Raise the limits that ``entries`` neighbours of one family come near to; the old values are recorded first.

    Near is half of ``gc_thresh2``, above which the kernel starts to throw out entries in use.
    """
    for family in FAMILIES:
        files = {name: settings / family / "neigh" / "default" / name for name in RAISED}
        try:
            now = {name: int(file.read_text()) for name, file in files.items()}
        except FileNotFoundError:
            if entries * 2 > USUAL:
                say(
                    f"net.{family}.neigh.default.gc_thresh2 cannot be seen in this container; have it raised to at least "
                    f"{entries * 2} on the machine: its labs need about {entries} neighbour entries"
                )
            continue
        if entries * 2 <= now["gc_thresh2"]:
            continue
        raised = {name: max(now[name], value) for name, value in RAISED.items()}
        if raised == now:
            continue
        record = _read(root)
        record.setdefault(family, {})
        for name, value in now.items():
            before = record[family].get(name, [value])[0]
            record[family][name] = [before, raised[name]]
        _write(root, record)
        # The highest first: the kernel wants no order, people who look meanwhile do.
        for name in sorted(raised, reverse=True):
            files[name].write_text(str(raised[name]))
        say(
            f"raised net.{family}.neigh.default.gc_thresh1/2/3 from {_slashed(now)} to {_slashed(raised)}: "
            f"this machine's labs need about {entries} neighbour entries; the last 'lab down' puts them back"
        )


def restore(root: Path, say: Callable[[str], None], *, settings: Path = SETTINGS) -> None:
    """Put the recorded limits back, except those that somebody else has changed since."""
    record = _read(root)
    for family, names in record.items():
        for name, (before, raised) in names.items():
            file = settings / family / "neigh" / "default" / name
            if int(file.read_text()) == raised:
                file.write_text(str(before))
        say(
            f"put net.{family}.neigh.default.gc_thresh1/2/3 back to {_slashed({n: v[0] for n, v in names.items()})}"
        )
    (root / RECORD).unlink(missing_ok=True)


def _slashed(values: dict[str, int]) -> str:
    return "/".join(str(values[name]) for name in sorted(values))


def _read(root: Path) -> dict[str, dict[str, list[int]]]:
    try:
        record: dict[str, dict[str, list[int]]] = json.loads((root / RECORD).read_text())
    except FileNotFoundError:
        return {}
    return record


def _write(root: Path, record: dict[str, dict[str, list[int]]]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    fresh = root / f".{RECORD}"
    fresh.write_text(json.dumps(record))
    fresh.replace(root / RECORD)
