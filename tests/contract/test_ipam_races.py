"""Many clients of address management at once on every kind of store, with failures, and nothing is ever wrong.

What is judged, and when, is in ``support.ipam_ledger``. In memory the same is done in every order of calls:
see ``tests/histories/test_ipam_histories.py``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from support.ipam_faults import Chance
from support.ipam_scenes import crowd, play_for_real
from support.stores import STORES, World, run_in


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("trouble", [0.0, 0.05])
@pytest.mark.parametrize("kind", STORES)
def test_a_crowd_is_served_right(kind: str, trouble: float, seed: int, tmp_path: Path) -> None:
    """Ten clients on five nodes that assign and release at once, dying and losing answers or not."""

    async def test(world: World) -> None:
        await play_for_real(crowd(Random(seed), clients=10), Chance(seed, trouble=trouble), world)

    run_in(kind, tmp_path, test)
