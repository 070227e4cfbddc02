"""How deep chains call each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from calico.ruleset import ast
from calico.ruleset.iptables import Compiler

KERNEL_LIMIT = 16
"""NFT_JUMP_STACK_SIZE: more chains than that do not follow each other, jumps and gotos alike."""


def nesting(table: ast.Table) -> int:
    """The longest row of chains that call each other, as iptables gets them."""
    return max(_deepest(image.chains) for image in Compiler(table).images().values())


def _deepest(chains: Mapping[str, tuple[str, ...]]) -> int:
    @cache
    def depth(chain: str) -> int:
        called = [name for rule in chains.get(chain, ()) for name in re.findall(r"-[jg] (cali-\S+)", rule)]
        return 1 + max(map(depth, called), default=0)

    return max(map(depth, chains), default=0)
