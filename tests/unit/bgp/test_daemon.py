"""Starting, taking over and reloading BIRD; these BIRDs touch no kernel route and open no port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from calico.bgp.control import NotRunning, Refused
from calico.bgp.daemon import Bird, Failed, Missing

needs_bird = pytest.mark.skipif(
    shutil.which("bird", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin") is None,
    reason="needs BIRD 2 (package bird2)",
)

ONE = """\
router id 10.0.0.1;
protocol device { }
protocol static blocks { ipv4; route 10.65.0.0/26 blackhole; }
"""
TWO = ONE + "protocol static more { ipv4; route 10.65.1.0/26 blackhole; }\n"
BROKEN = ONE + "protocol statik { }\n"


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose BIRD is gone after the test."""
    yield tmp_path
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(pid_of(tmp_path), signal.SIGKILL)


def pid_of(run_dir: Path) -> int:
    """The BIRD that runs, or ran, from ``run_dir``."""
    return int((run_dir / "bird.pid").read_text())


def kill(run_dir: Path) -> None:
    """End BIRD as a crash would, and wait until it is gone."""
    pid = pid_of(run_dir)
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    asyncio.run(_readable(handle))
    os.close(handle)


async def _readable(descriptor: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    asyncio.get_running_loop().remove_reader(descriptor)


def protocols(bird: Bird) -> dict[str, str]:
    """The names of BIRD's protocols, and since when they are as they are."""
    return {protocol.name: protocol.since for protocol in asyncio.run(bird.control.protocols())}


@needs_bird
def test_first_text_starts_bird_and_the_same_again_does_nothing(run_dir: Path) -> None:
    """BIRD is started once; the same text again changes nothing."""
    bird = Bird(run_dir)

    assert asyncio.run(bird.ensure(ONE)) == "started"
    first = pid_of(run_dir)
    configured = asyncio.run(bird.control.status()).configured
    assert asyncio.run(bird.ensure(ONE)) == "unchanged"

    assert pid_of(run_dir) == first
    assert asyncio.run(bird.control.status()).configured == configured
    assert list(protocols(bird)) == ["device1", "blocks"]


@needs_bird
def test_configuration_is_not_for_everybodys_eyes(run_dir: Path) -> None:
    """The file may hold passwords: only its owner may read it."""
    asyncio.run(Bird(run_dir).ensure(ONE))

    mode = stat.S_IMODE((run_dir / "bird.conf").stat().st_mode)
    assert mode == 0o600
    assert mode & 0o700 == 0o600


@needs_bird
def test_change_is_loaded_into_the_running_bird(run_dir: Path) -> None:
    """Another text is loaded by the same process, and what did not change is not restarted."""
    bird = Bird(run_dir)
    asyncio.run(bird.ensure(ONE))
    first, before = pid_of(run_dir), protocols(bird)

    assert asyncio.run(bird.ensure(TWO)) == "reloaded"

    assert pid_of(run_dir) == first
    assert {name: since for name, since in protocols(bird).items() if name != "more"} == before
    assert asyncio.run(bird.control.route_count()) == 2


@needs_bird
def test_refused_text_leaves_the_old_one_loaded(run_dir: Path) -> None:
    """What BIRD refuses is reported in BIRD's words, kept for reading, and not loaded, now or after a crash."""
    bird = Bird(run_dir)
    asyncio.run(bird.ensure(ONE))

    with pytest.raises(Refused, match=r"line 5:\d+ syntax error"):
        asyncio.run(bird.ensure(BROKEN))

    assert list(protocols(bird)) == ["device1", "blocks"]
    assert "statik" in (run_dir / "bird.conf.rejected").read_text()
    assert asyncio.run(bird.ensure(ONE)) == "unchanged"
    kill(run_dir)
    assert asyncio.run(Bird(run_dir).ensure(ONE)) == "started"


@needs_bird
def test_refused_first_text_starts_nothing(run_dir: Path) -> None:
    """With nothing loaded before, a refused text leaves no BIRD behind."""
    bird = Bird(run_dir)

    with pytest.raises(Refused):
        asyncio.run(bird.ensure(BROKEN))

    assert not asyncio.run(bird.running())
    assert not (run_dir / "bird.conf").exists()


@needs_bird
def test_next_agent_takes_the_running_bird_over(run_dir: Path) -> None:
    """A new agent finds the BIRD of the one before, and only reloads it if the text differs."""
    asyncio.run(Bird(run_dir).ensure(ONE))
    first = pid_of(run_dir)

    assert asyncio.run(Bird(run_dir).ensure(ONE)) == "unchanged"
    assert asyncio.run(Bird(run_dir).ensure(TWO)) == "reloaded"
    assert pid_of(run_dir) == first


@needs_bird
def test_bird_survives_the_death_of_its_agent(run_dir: Path) -> None:
    """When the process that started BIRD is killed -9, with all of its group, BIRD goes on."""
    agent = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from calico.bgp.daemon import Bird\n"
        "asyncio.run(Bird(pathlib.Path(sys.argv[1])).ensure(sys.argv[2]))\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", agent, run_dir, ONE], check=False, start_new_session=True, timeout=30
    )

    assert died.returncode == -signal.SIGKILL
    assert asyncio.run(Bird(run_dir).ensure(ONE)) == "unchanged"


@needs_bird
def test_reload_that_was_cut_off_is_done_again(run_dir: Path) -> None:
    """After an agent died between loading and renaming, what BIRD has is uncertain, so it is loaded again."""
    bird = Bird(run_dir)
    asyncio.run(bird.ensure(ONE))
    cut_off = run_dir / "bird.conf.new"
    cut_off.write_text(TWO)
    asyncio.run(bird.control.configure(cut_off))

    assert asyncio.run(Bird(run_dir).ensure(ONE)) == "reloaded"

    assert list(protocols(bird)) == ["device1", "blocks"]
    assert not cut_off.exists()


@needs_bird
def test_dead_bird_is_started_again(run_dir: Path) -> None:
    """After kill -9 the stale socket is no obstacle."""
    bird = Bird(run_dir)
    asyncio.run(bird.ensure(ONE))
    first = pid_of(run_dir)
    kill(run_dir)

    assert not asyncio.run(bird.running())
    assert asyncio.run(bird.ensure(ONE)) == "started"

    assert pid_of(run_dir) != first


@needs_bird
def test_stop_ends_bird_and_may_be_repeated(run_dir: Path) -> None:
    """When ``stop`` returns BIRD has ended; stopping what does not run is nothing."""
    bird = Bird(run_dir)
    asyncio.run(bird.ensure(ONE))
    asyncio.run(bird.stop())

    assert not asyncio.run(bird.running())
    asyncio.run(bird.stop())
    with pytest.raises(NotRunning):
        asyncio.run(bird.sessions())


def test_missing_bird_says_what_to_install(tmp_path: Path) -> None:
    """Without BIRD on the machine the error names the package."""
    with pytest.raises(Missing, match="bird2"):
        asyncio.run(Bird(tmp_path, program="no-such-bird").ensure(ONE))


def test_bird_that_ends_at_once_is_a_failure(tmp_path: Path) -> None:
    """A program that exits well without answering is not taken for a running BIRD."""
    with pytest.raises(Failed, match="ended at once"):
        asyncio.run(Bird(tmp_path, program="true").ensure(ONE))
