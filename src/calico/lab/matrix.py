"""What a probe found, as a table for people.

In:   ``Row``s.
Out:  lines of text, with a mark on every cell that differs from what policy says.
Next: ``cli.lab`` prints them.

Up to 30 ends: one line a source, one column a destination, and in each cell one sign for each service. More ends
are counted by their groups (namespaces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from calico.lab.flows import End, Row, Service

WIDEST: Final = 30
Mark = Callable[[str], str]

SIGNS: Final = "+ allowed, - denied, 4 or 6: allowed in that IP version only, ! error"


def table(rows: Sequence[Row], mark: Mark = str) -> Iterator[str]:
    """The lines; ``mark`` is applied to what differs."""
    everybody = tuple(dict.fromkeys(end for row in rows for end in (row.flow.source, row.flow.destination)))
    names = {end.name: end for end in everybody}
    if len(names) <= WIDEST:
        yield from _matrix(rows, tuple(names.values()), mark)
    else:
        yield from _groups(rows, mark)


def differences(rows: Sequence[Row], limit: int = 40) -> Iterator[str]:
    """A sentence for each row that differs, up to ``limit``."""
    different = [row for row in rows if row.differs]
    for row in different[:limit]:
        flow = row.flow
        reason = f" ({row.reason})" if row.reason else ""
        yield (
            f"{flow.source.name} -> {flow.destination.name} IPv{flow.version} {flow.service}: "
            f"policy says {row.expected}, observed {row.observed}{reason}"
        )
    if len(different) > limit:
        yield f"... and {len(different) - limit} more"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many, what came of them, and how many differ."""
    counts = Counter(row.observed for row in rows)
    different = sum(row.differs for row in rows)
    return (
        f"{len(rows)} connections: {counts['allow']} allowed, {counts['deny']} denied, {counts['error']} error{'s' * (counts['error'] != 1)}; "
        + (f"{different} differ from policy" if different else "all as policy says")
    )


def _matrix(rows: Sequence[Row], everybody: Sequence[End], mark: Mark) -> Iterator[str]:
    services = tuple(dict.fromkeys(row.flow.service for row in rows))
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.flow.source.name, row.flow.destination.name), []).append(row)
    yield f"Each cell: {' '.join(map(str, services))}. {SIGNS}"
    yield ""
    width = max(len(services), 2)
    names = max(len(end.name) for end in everybody)
    numbers = len(str(len(everybody)))
    heading = " ".join(f"{number:>{width}}" for number in range(1, len(everybody) + 1))
    labels = [f"{number:>{numbers}} {end.name:<{names}}" for number, end in enumerate(everybody, start=1)]
    left = max(len(label) for label in (*labels, "from, to"))
    yield f"{'from, to':<{left}}  {heading}"
    for label, source in zip(labels, everybody, strict=True):
        line = []
        for destination in everybody:
            found = cells.get((source.name, destination.name), [])
            text = _signs(found, services).rjust(width)
            line.append(mark(text) if any(row.differs for row in found) else text)
        yield f"{label:<{left}}  {' '.join(line)}".rstrip()


def _signs(rows: Sequence[Row], services: Sequence[Service]) -> str:
    if not rows:
        return ""
    return "".join(_sign([row for row in rows if row.flow.service == service]) for service in services)


def _sign(rows: Sequence[Row]) -> str:
    if not rows:
        return " "
    if any(row.observed == "error" for row in rows):
        return "!"
    allowed = {row.flow.version for row in rows if row.observed == "allow"}
    if not allowed:
        return "-"
    return "+" if len(allowed) == len({row.flow.version for row in rows}) else str(min(allowed))


def _groups(rows: Sequence[Row], mark: Mark) -> Iterator[str]:
    groups = sorted({end.group for row in rows for end in (row.flow.source, row.flow.destination)})
    tried: Counter[tuple[str, str]] = Counter()
    allowed: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for row in rows:
        cell = row.flow.source.group, row.flow.destination.group
        tried[cell] += 1
        allowed[cell] += row.observed == "allow"
        wrong[cell] += row.differs
    width = max(*(len(group) for group in groups), *(2 * len(str(count)) + 1 for count in tried.values()))
    yield "Connections allowed, of those tried, between groups of workloads"
    yield ""
    yield f"{'from, to':<{width}}  " + "  ".join(f"{group:>{width}}" for group in groups)
    for source in groups:
        line = []
        for destination in groups:
            cell = source, destination
            text = (f"{allowed[cell]}/{tried[cell]}" if tried[cell] else "").rjust(width)
            line.append(mark(text) if wrong[cell] else text)
        yield f"{source:<{width}}  {'  '.join(line)}".rstrip()
