"""The ruleset value as chains of iptables: one set of chains for each iptables table of one family.

In:   ``ast.Table``, whole (``Compiler(table)``) or changed since (``Compiler.forget``).
Out:  ``Image`` by iptables table: the rules of every chain, and the jumps from the kernel's own chains.
Next: ``ruleset.iptables_save`` compares an image with what the kernel holds and writes the difference.

The meaning is nftables', and what iptables cannot say in one rule is said by further chains reached with ``-g``,
which come back to whoever called the chain that they belong to:

* ``cali-do-*``   several statements in a row (set a mark, then return), shared by all rules that do the same;
* ``cali-rest-*`` the remaining rules of a chain, for the two below to go on with;
* ``cali-if-*``   what a rule does once its matches hold, after further exclusions;
* ``cali-tree-*`` one node of a verdict map, which is written as a tree of interface prefixes.

Every rule carries a comment "cali:" and 16 characters of a hash that is chained along the chain, so that the hashes
alone tell whether a chain is what it should be, and a comment that says for people where the rule comes from.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha224
from typing import Final, Literal, assert_never

from calico.model.address import Family
from calico.ruleset import ast
from calico.ruleset.iptables_match import (
    TCP,
    Condition,
    condition,
    interface_matches,
    possible_interface,
    quote,
)
from calico.ruleset.provenance import describe

TableName = Literal["raw", "mangle", "nat", "filter"]
TABLES: Final[tuple[TableName, ...]] = ("filter", "mangle", "nat", "raw")
"""In the order of writing: filter closes what nothing else closes, so it comes first."""
PREFIX: Final = "cali-"
"""Chains that begin so are ours, in every table."""
HASH_PREFIX: Final = "cali:"
_CHAIN_LENGTH: Final = 28
_COMMENT_LENGTH: Final = 200
_LOG_PREFIX_LENGTH: Final = 29
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_FLAT: Final = 8
"""Entries of a verdict map up to which a list is as good as a tree."""
_NAME_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-")


@dataclass(frozen=True, slots=True)
class Jumps:
    """Rules that a chain of the kernel has of us: before and behind those of others."""

    top: tuple[str, ...] = ()
    bottom: tuple[str, ...] = ()


@dataclass(slots=True)
class Image:
    """What one iptables table should hold of us; a rule is the text behind "-A <chain> "."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    jumps: dict[str, Jumps] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """For each chain one of the ruleset that it is a part of, for messages."""


Images = dict[TableName, Image]


def digest(text: str, length: int = 16) -> str:
    """The first characters of a hash of ``text`` that may stand in names and comments."""
    return urlsafe_b64encode(sha224(text.encode()).digest()).decode()[:length]


def chain_name(name: str, *, hook: ast.Hook | None = None) -> str:
    """The chain's name in the kernel: "cali-FORWARD" for the base chain "filter-FORWARD"; at most 28 characters."""
    if hook is not None:
        name = name.removeprefix(f"{hook.table}-")
    full = name if name.startswith(PREFIX) else PREFIX + name
    if len(full) <= _CHAIN_LENGTH and _NAME_SAFE.issuperset(full):
        return full
    return f"{PREFIX}_{digest(full, _CHAIN_LENGTH - len(PREFIX) - 1)}"


def hashed(chain: str, rules: Iterable[str]) -> tuple[str, ...]:
    """``rules`` with the comment that identifies each, by its text and all that stands before it."""
    result: list[str] = []
    last = chain
    for rule in rules:
        last = digest(f"{last} {rule}")
        result.append(f"-m comment --comment {HASH_PREFIX}{last} {rule}")
    return tuple(result)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One chain of the ruleset in one iptables table: its chains there, and the ruleset's chains it calls."""

    chains: dict[str, tuple[str, ...]]
    calls: frozenset[str]


class Compiler:
    """The images of one family, compiled chain by chain so that a change costs what it concerns."""

    def __init__(self, table: ast.Table) -> None:
        self._table = table
        self._cache: dict[tuple[TableName, str], _Compiled] = {}
        self._users: dict[str, set[str]] = {}

    def forget(self, chains: Iterable[str], maps: Iterable[str]) -> None:
        """The table's ``chains`` and ``maps`` have changed: compile what concerns them anew."""
        gone = set(chains)
        for name in maps:
            gone |= self._users.pop(name, set())
        for name in gone:
            for table in TABLES:
                self._cache.pop((table, name), None)

    def images(self) -> Images:
        """What each iptables table should hold; chains that cannot be reached from its hooks are left out.

        Raises ``ValueError`` for a ruleset that contradicts itself, such as a jump to a chain that is not there.
        """
        return {table: self._image(table) for table in TABLES}

    def _image(self, table: TableName) -> Image:
        image = Image()
        bases = [(n, c.hook) for n, c in self._table.chains.items() if c.hook and c.hook.table == table]
        todo = [name for name, _ in bases]
        reached = set(todo)
        while todo:
            name = todo.pop()
            compiled = self._compiled(table, name)
            image.chains.update(compiled.chains)
            image.names |= dict.fromkeys(compiled.chains, name)
            todo += compiled.calls - reached
            reached |= compiled.calls
        for kernel_chain in {hook.hook.upper() for _, hook in bases}:
            mine = [(n, h) for n, h in bases if h.hook.upper() == kernel_chain]
            # Source NAT of others, such as kube-proxy's, is to see the packet first.
            last = [(n, h) for n, h in mine if h.append or (table, h.hook) == ("nat", "postrouting")]
            image.jumps[kernel_chain] = Jumps(
                hashed(kernel_chain, [f"-j {chain_name(n, hook=h)}" for n, h in mine if (n, h) not in last]),
                hashed(kernel_chain, [f"-j {chain_name(n, hook=h)}" for n, h in last]),
            )
        return image

    def _compiled(self, table: TableName, name: str) -> _Compiled:
        if (found := self._cache.get((table, name))) is not None:
            return found
        writer = _Writer(self._table, table, name, self._kernel_name)
        compiled = _Compiled(writer.chains, frozenset(writer.calls))
        for used in writer.maps:
            self._users.setdefault(used, set()).add(name)
        self._cache[table, name] = compiled
        return compiled

    def _kernel_name(self, name: str) -> str:
        chain = self._table.chains.get(name)
        if chain is None:
            raise ValueError(f"a rule calls the chain {name!r}, which is not in the ruleset")
        return chain_name(name, hook=chain.hook)


class _Writer:
    """Writes one chain of the ruleset, and the further chains that it takes."""

    def __init__(
        self, source: ast.Table, table: TableName, name: str, kernel_name: Callable[[str], str]
    ) -> None:
        self.chains: dict[str, tuple[str, ...]] = {}
        self.calls: set[str] = set()
        self.maps: set[str] = set()
        self._source = source
        self._family: Family = ast.address_family(source.family)
        self._table = table
        self._kernel_name = kernel_name
        self._chain = kernel_name(name)
        self._write(self._chain, source.chains[name].rules)

    def _extra(self, kind: str, of: str) -> str:
        return f"{PREFIX}{kind}-{digest(f'{self._chain} {of}', 12)}"

    def _write(self, chain: str, rules: Sequence[ast.Rule]) -> None:
        """Rules up to the first that needs the rest of them in a chain of its own; that chain then goes on."""
        lines: list[str] = []
        for index, rule in enumerate(rules):
            rest = _Rest(self, f"{chain} {index}", rules[index + 1 :])
            if self._rule(lines, rule, rest):
                lines += rest.go()
                break
        self.chains[chain] = hashed(chain, lines)

    def _rule(self, lines: list[str], rule: ast.Rule, rest: _Rest) -> bool:
        """Write one rule; whether the remaining rules now stand in the chain of ``rest``."""
        _check(rule)
        comment = _comment(rule)
        dispatch = rule.statements[-1] if rule.statements else None
        if not isinstance(dispatch, ast.Dispatch):
            when = condition(rule.matches, self._family)
            if when is None or not rule.statements:
                return False
            if not when.escapes:
                target = self._target(rule.statements)
                lines += [_join(comment, option, target) for option in when.alternatives]
                return False
            inner = [_join(option, rest.target()) for option in when.escapes]
            inner += [_join(comment, self._target(rule.statements)), *rest.go()]
            self._guarded(lines, comment, when, inner, rest)
            return True
        self.maps.add(dispatch.map)
        own = [m for m in rule.matches if isinstance(m, ast.Interface) and m.direction == dispatch.direction]
        entries = sorted(
            (name, verdict)
            for name, verdict in self._source.maps[dispatch.map].items()
            if possible_interface(name) and all(interface_matches(match, name) for match in own)
        )
        option = "-i" if dispatch.direction == "in" else "-o"
        if len(rule.statements) == 1 and len(own) == len(rule.matches):
            before = len(self.chains)
            lines += self._tree(entries, option, comment, rest)
            return len(self.chains) > before
        when = condition(rule.matches, self._family)
        if when is None:
            return False
        inner = [_join(option, rest.target()) for option in when.escapes]
        if len(rule.statements) > 1:
            inner.append(_join(comment, self._target(rule.statements[:-1])))
        inner += [*self._tree(entries, option, comment, rest), *rest.go()]
        self._guarded(lines, comment, when, inner, rest)
        return True

    def _guarded(
        self, lines: list[str], comment: str, when: Condition, inner: list[str], rest: _Rest
    ) -> None:
        chain = self._extra("if", rest.place)
        self.chains[chain] = hashed(chain, inner)
        lines += [_join(comment, option, f"-g {chain}") for option in when.alternatives]

    def _tree(
        self, entries: list[tuple[str, ast.Verdict]], option: str, comment: str, rest: _Rest
    ) -> list[str]:
        """One rule for each entry if they are few, else one for each next character behind the common prefix.

        What no rule of a child matches goes on with the rest, as it would after a failed lookup.
        """
        if len(entries) <= _FLAT:
            return [
                _join(comment, f"{option} {quote(name)}", self._target((verdict,)))
                for name, verdict in entries
            ]
        first, last = entries[0][0], entries[-1][0]
        common = next(
            (i for i, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first)
        )
        groups: dict[str, list[tuple[str, ast.Verdict]]] = {}
        for entry in entries:
            groups.setdefault(entry[0][: common + 1], []).append(entry)
        lines: list[str] = []
        for prefix, group in groups.items():
            if len(group) == 1:
                lines += self._tree(group, option, comment, rest)
                continue
            chain = self._extra("tree", f"{rest.place} {prefix}")
            self.chains[chain] = ()
            self.chains[chain] = hashed(chain, [*self._tree(group, option, comment, rest), *rest.go()])
            lines.append(_join(comment, f"{option} {quote(prefix + '+')}", f"-g {chain}"))
        return lines

    # --- statements

    def _target(self, statements: Sequence[ast.Statement]) -> str:
        """What stands behind the matches: one statement, or a chain that carries out several."""
        last = statements[-1]
        if len(statements) == 1 and not (isinstance(last, ast.Reject) and self._table == "filter"):
            return self._statement(last)
        lines = [self._statement(statement) for statement in statements]
        if isinstance(last, ast.Reject) and self._table == "filter":
            lines[-1:] = [f"-p {TCP} -j REJECT --reject-with tcp-reset", self._statement(last)]
        name = f"{PREFIX}do-{digest(' '.join(lines), 12)}"
        self.chains[name] = hashed(name, lines)
        comes_back = not isinstance(last, ast.Accept | ast.Drop | ast.Reject | ast.Return | ast.Goto)
        return f"-{'j' if comes_back else 'g'} {name}"

    def _statement(self, statement: ast.Statement) -> str:
        match statement:
            case ast.Accept():
                return "-j ACCEPT"
            case ast.Drop():
                return "-j DROP"
            case ast.Return():
                return "-j RETURN"
            case ast.Reject():
                if self._table != "filter":
                    return "-j DROP"  # REJECT exists in the filter table only.
                return f"-j REJECT --reject-with {'icmp' if self._family == 4 else 'icmp6'}-port-unreachable"
            case ast.Jump(chain):
                self.calls.add(chain)
                return f"-j {self._kernel_name(chain)}"
            case ast.Goto(chain):
                self.calls.add(chain)
                return f"-g {self._kernel_name(chain)}"
            case ast.SetMark(value, mask):
                return f"-j MARK --set-xmark {value:#x}/{mask | value:#x}"
            case ast.NoTrack():
                return "-j CT --notrack"
            case ast.Log(prefix, rate, burst):
                limit = f"-m limit --limit {rate} --limit-burst {_burst(rate, burst)}" if rate else ""
                words = f"-j LOG --log-prefix {quote(_cut(prefix, _LOG_PREFIX_LENGTH))} --log-level 5"
                return _join(limit, words)
            case ast.Masquerade():
                return "-j MASQUERADE --random-fully"
            case ast.Dispatch():
                raise ValueError("a verdict map must be the last statement of its rule")
            case _:
                assert_never(statement)


class _Rest:
    """The rules behind one rule: a chain that is written when somebody first needs to go there."""

    def __init__(self, writer: _Writer, place: str, rules: Sequence[ast.Rule]) -> None:
        self.place = place
        self._writer = writer
        self._rules = rules
        self._chain = ""

    def target(self) -> str:
        """How to go on with the remaining rules from a chain reached by goto."""
        if not self._rules:
            return "-j RETURN"
        if not self._chain:
            self._chain = self._writer._extra("rest", self.place)  # noqa: SLF001 - two halves of one thing
            self._writer._write(self._chain, self._rules)  # noqa: SLF001 - as above
        return f"-g {self._chain}"

    def go(self) -> list[str]:
        """The last line of a chain that ends where the remaining rules begin; none when there are none."""
        return [self.target()] if self._rules else []


def _check(rule: ast.Rule) -> None:
    verdicts = ast.Accept | ast.Drop | ast.Reject | ast.Return | ast.Jump | ast.Goto | ast.Dispatch
    if any(isinstance(statement, verdicts) for statement in rule.statements[:-1]):
        raise ValueError(f"only the last statement of a rule may be a verdict: {rule}")
    if any(isinstance(statement, ast.Log) and statement.rate for statement in rule.statements[:-1]):
        raise ValueError(f"only the last statement of a rule may have a rate: {rule}")


def _comment(rule: ast.Rule) -> str:
    text = describe(rule.origin) if rule.origin is not None else rule.comment
    return f"-m comment --comment {quote(_cut(text, _COMMENT_LENGTH))}" if text else ""


def _burst(rate: str, burst: int) -> int:
    """``burst``, or what of it fits: the kernel refuses one that takes longer than a day to come together."""
    number, _, unit = rate.partition("/")
    return max(1, min(burst, int(number) * 86400 // _SECONDS[unit]))


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of ``text``, whole characters only: iptables itself would cut one in two."""
    return text.encode()[:limit].decode(errors="ignore")


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
