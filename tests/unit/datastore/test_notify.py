"""Hearing of a touch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from calico.datastore.notify import Bell

LONG = 30.0


def run(directory: Path, test: Callable[[Bell, int], Awaitable[None]]) -> None:
    async def body() -> None:
        touched = os.open(directory / "touched", os.O_RDWR | os.O_CREAT)
        bell = Bell(directory / "touched", directory / "present")
        try:
            async with asyncio.timeout(10):
                await test(bell, touched)
        finally:
            bell.close()
            os.close(touched)

    asyncio.run(body())


async def silent(bell: Bell) -> bool:
    """Whether nothing rang, once all that the kernel has said was read."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return not bell._rung.is_set()


def test_touch_rings(tmp_path: Path) -> None:
    """A byte written to the file wakes who waits, also when it was written before."""

    async def test(bell: Bell, touched: int) -> None:
        waiting = asyncio.create_task(bell.wait(LONG))
        await asyncio.sleep(0)
        os.pwrite(touched, b"x", 0)
        await waiting
        os.pwrite(touched, b"x", 0)
        await bell.wait(LONG)
        assert await silent(bell)

    run(tmp_path, test)


def test_waiting_ends_by_itself(tmp_path: Path) -> None:
    """Without a sound waiting ends after its time."""

    async def test(bell: Bell, touched: int) -> None:
        await bell.wait(0.0)
        assert await silent(bell)

    run(tmp_path, test)


def test_file_that_comes_goes_and_is_replaced(tmp_path: Path) -> None:
    """Making, replacing, moving and deleting the other file ring."""

    async def test(bell: Bell, touched: int) -> None:
        present, other = tmp_path / "present", tmp_path / "other"
        other.touch()
        assert await silent(bell)
        for act in (
            present.touch,
            lambda: other.rename(present),
            lambda: present.rename(other),
            present.touch,
            present.unlink,
        ):
            act()
            await bell.wait(LONG)

    run(tmp_path, test)


def test_other_files_do_not_ring(tmp_path: Path) -> None:
    """What happens to other files of the directory, or inside the one that is watched for presence, is silent."""
    (tmp_path / "present").touch()

    async def test(bell: Bell, touched: int) -> None:
        (tmp_path / "present-wal").write_bytes(b"x")
        (tmp_path / "present-wal").unlink()
        (tmp_path / "present").write_bytes(b"x")
        os.pread(touched, 1, 0)
        assert await silent(bell)

    run(tmp_path, test)


def test_missing_file_cannot_be_listened_to(tmp_path: Path) -> None:
    """Without the file to touch there is an error, and no descriptor is left open."""
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def test() -> None:
        with pytest.raises(FileNotFoundError):
            Bell(tmp_path / "touched", tmp_path / "present")

    asyncio.run(test())
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
