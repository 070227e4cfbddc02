"""Run benchmarks one after the other, each in a process of its own, and print all their tables in markdown.

    python -m benchmarks                          everything, as it is to stand in RESULTS.md
    python -m benchmarks settle store             some
    python -m benchmarks lab_up --sizes 1x1x2     one, with options of its own (--help shows them)

Each module of this directory that has a ``main`` is a benchmark. Most need root; they work in network namespaces of
their own and leave nothing behind. Run them on a machine that does nothing else: the head of the output says how busy it was.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(
        path.stem
        for path in HERE.glob("*.py")
        if not path.stem.startswith("_")
        and re.search(r"^(async )?def main\(", path.read_text(), re.MULTILINE)
    )


def machine() -> list[tuple[str, str]]:
    """What the numbers depend on besides the code."""
    processors = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("commit", output("git", "-C", str(ROOT), "describe", "--always", "--dirty")),
        ("processor", f"{processors[0] if processors else platform.machine()}, {os.cpu_count()} cores"),
        ("memory", f"{int(memory[1]) / 2**20:.1f} GiB" if memory else "unknown"),
        ("kernel", platform.release()),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("tools", "; ".join(filter(None, map(version, ("nft", "iptables", "bird", "etcd"))))),
        ("load average at the start", "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg())),
    ]


def version(program: str) -> str:
    """What a program of the system says about itself."""
    return output(program, "--version") if shutil.which(program) else f"no {program}"


def output(*command: str) -> str:
    """The first line that a command prints; "unknown" if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines and not done.returncode else "unknown"


def run(name: str, options: list[str]) -> bool:
    """Run one benchmark, its table going to our output; whether it succeeded."""
    print(f"## {name}\n", flush=True)
    paths = (str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")]))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(HERE / f"{name}.py"), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # so that it is interrupted once, by us, and has time to tidy up
    )
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        raise
    took = time.monotonic() - start
    print(
        f"\nFAILED with status {status} after {took:.0f} s\n" if status else f"\n(measured in {took:.0f} s)\n"
    )
    return not status


def main() -> None:
    """Read the command line, run, and fail if a benchmark did."""
    known = names()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"benchmarks: {', '.join(known)}",
        add_help=not set(sys.argv) & set(known),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; default: all")
    words = sys.argv[1:]
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    chosen, options = words[:first], words[first:]
    if not set(chosen) & set(known):
        parser.parse_args(words)
    if unknown := set(chosen) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options and len(chosen) != 1:
        parser.error("options go to one benchmark, but several are named")
    if options in (["-h"], ["--help"]):
        raise SystemExit(not run(chosen[0], options))

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("| machine | |\n|---|---|")
    for what, value in machine():
        print(f"| {what} | {value} |")
    print(flush=True)
    failed = [name for name in chosen or known if not run(name, options)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
