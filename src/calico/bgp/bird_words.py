"""Words of BIRD's language.

In:   names, patterns and prefixes, whoever wrote them.
Out:  text that cannot be anything else in ``bird.conf``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

MAX_SYMBOL: Final = 45
"""What of a resource's name a symbol of BIRD, 64 letters at most, has room for beside our own words."""
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


def word(text: str) -> str:
    """``text`` as one word of a comment."""
    return re.sub(r"[^\w.:-]", "_", text, flags=re.ASCII)


def symbol(name: str) -> str:
    """A symbol, in quotes where it needs them."""
    return name if _PLAIN.fullmatch(name) else f"'{re.sub(r'[^A-Za-z0-9_.:-]', '_', name)}'"


def short(name: str) -> str:
    """``name``, shortened to ``MAX_SYMBOL`` letters with a hash if it is longer, or has letters that no symbol may."""
    if len(name) <= MAX_SYMBOL and re.fullmatch(r"[A-Za-z0-9_.-]*", name):
        return name
    start = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[: MAX_SYMBOL - 9]
    return f"{start}_{sha256(name.encode()).hexdigest()[:8]}"
