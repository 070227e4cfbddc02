"""Words of BIRD's language.

In:   names, patterns and prefixes, whoever wrote them.
Out:  text that cannot be anything else in ``bird.conf``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeGuard

LONGEST: Final = 64
"""Letters of a symbol; BIRD refuses a configuration with a longer one."""
MAX_SYMBOL: Final = 45
"""What of a resource's name a symbol has room for beside our own words."""
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def prefixes(texts: Iterable[str]) -> str:
    """A set of prefixes."""
    return f"[ {', '.join(texts)} ]"


def quoted(text: str) -> str:
    """A string. The language knows no escapes: what would end it or the line is left out."""
    return f'"{printable(text)}"'


def printable(text: str) -> str:
    """``text`` without what a string cannot hold."""
    return "".join(char for char in text if char.isprintable() and char != '"')


def usable(password: str | None) -> TypeGuard[str]:
    """Whether ``password`` is one, and can be said as it is."""
    return bool(password) and password == printable(password or "")


def word(text: str) -> str:
    """``text`` as one word of a comment."""
    return re.sub(r"[^\w.:-]", "_", text, flags=re.ASCII)


def symbol(name: str) -> str:
    """A symbol, short enough, in quotes where it needs them."""
    fitting = short(name, LONGEST)
    return fitting if _PLAIN.fullmatch(fitting) else f"'{fitting}'"


def short(name: str, most: int = MAX_SYMBOL) -> str:
    """``name``, shortened to ``most`` letters with a hash if it is longer, or has letters that no symbol may."""
    if len(name) <= most and re.fullmatch(r"[A-Za-z0-9_.-]*", name):
        return name
    start = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[: most - 9]
    return f"{start}_{sha256(name.encode()).hexdigest()[:8]}"
