"""Kernel settings: what a workload's interface needs, what forwarding needs, and what works against us.

In:   interface names; the files under /proc/sys of the calling thread's network namespace.
Out:  settings written where they differ, in an order that matters; warnings as values.
Next: ``links`` prepares each workload interface with this as soon as it is up.

A value is read before it is written, so a prepared interface costs no write. An interface that vanishes
meanwhile is no error.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from calico.programming.backend import Missing, ProgrammingError

ROOT: Final = Path("/proc/sys/net")


class Setting(NamedTuple):
    """A file below /proc/sys/net and its value. ``vital``: a workload is not safe, or not connected, without it."""

    path: str
    value: str
    vital: bool = True


class Found(NamedTuple):
    """A setting that did not have its value, what was there instead, and why it could not be changed ("" if it was)."""

    setting: Setting
    found: str
    problem: str = ""


class Warned(NamedTuple):
    """A setting of the host that works against us, in a sentence that says what to do."""

    path: str
    found: str
    sentence: str


def workload_settings(interface: str, *, reverse_path: str, ipv6: bool = True) -> tuple[Setting, ...]:
    """What the host's end of a workload needs, in order. ``reverse_path`` is the value for rp_filter.

    The proxy delay goes before proxy ARP: answers are wanted at once, and kernels have crashed on the other order.
    Router advertisements from a workload are never accepted, also without IPv6 support.
    """
    four, six = f"ipv4/conf/{interface}", f"ipv6/conf/{interface}"
    settings = [
        Setting(f"{six}/accept_ra", "0"),
        Setting(f"ipv4/neigh/{interface}/proxy_delay", "0", vital=False),
        Setting(f"{four}/route_localnet", "1"),
        Setting(f"{four}/proxy_arp", "1"),
        Setting(f"{four}/forwarding", "1"),
        Setting(f"{four}/rp_filter", reverse_path),
    ]
    if ipv6:
        settings += [Setting(f"{six}/proxy_ndp", "1"), Setting(f"{six}/forwarding", "1")]
    return tuple(settings)


def host_settings(*, ipv6: bool = True) -> tuple[Setting, ...]:
    """What the whole host needs to forward, and to count connections' packets."""
    settings = [
        Setting("ipv4/ip_forward", "1"),
        Setting("netfilter/nf_conntrack_acct", "1", vital=False),
    ]
    if ipv6:
        settings.append(Setting("ipv6/conf/all/forwarding", "1"))
    return tuple(settings)


class Sysctls:
    """The settings of one network namespace: the calling thread's, unless ``root`` says otherwise."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def prepare_workload(self, interface: str, *, ipv6: bool = True) -> list[Found]:
        """Give a workload's interface its settings; what was different. Empty if the interface is gone.

        rp_filter becomes the host's default, for the packet filter does the strict check.
        """
        reverse_path = self.read("ipv4/conf/default/rp_filter") or "0"
        return self._write(workload_settings(interface, reverse_path=reverse_path, ipv6=ipv6), optional=True)

    def prepare_host(self, *, ipv6: bool = True) -> list[Found]:
        """Switch forwarding on; what was different. Raises Missing where this is not allowed."""
        found = self._write(host_settings(ipv6=ipv6), optional=False)
        for one in found:
            if one.problem and one.setting.vital:
                raise Missing(f"Packets are not forwarded: {one.problem}")
        return found

    def warnings(self, host_interfaces: Iterable[str] = ()) -> list[Warned]:
        """What about the host's own settings works against us. ``host_interfaces`` are looked at one by one."""
        warned: list[Warned] = []
        loose = self.read("ipv4/conf/all/rp_filter")
        if loose == "2":
            warned.append(
                Warned(
                    "ipv4/conf/all/rp_filter",
                    loose,
                    "Loose reverse-path filtering for all interfaces (2) overrides the strict one (1) of each. Spoofed "
                    "packets of workloads are stopped by the packet filter alone; set net.ipv4.conf.all.rp_filter=1 or 0.",
                )
            )
        for name in sorted(host_interfaces):
            path = f"ipv6/conf/{name}/accept_ra"
            value = self.read(path)
            if value == "1":
                warned.append(
                    Warned(
                        path,
                        value,
                        f"{name} ignores router advertisements while the host forwards IPv6. If its default route comes "
                        f"from them, set net.ipv6.conf.{name}.accept_ra=2.",
                    )
                )
        return warned

    def read(self, path: str) -> str | None:
        """A setting's value, or None if it does not exist (an interface that is gone, no IPv6)."""
        try:
            return (self._root / path).read_text(encoding="ascii").strip()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EINVAL}:
                return None
            raise ProgrammingError(f"{self._root / path} cannot be read: {error.strerror}.") from error

    def _write(self, settings: Iterable[Setting], *, optional: bool) -> list[Found]:
        """Write what differs. A file that does not exist is passed over if ``optional``."""
        different: list[Found] = []
        for setting in settings:
            value = self.read(setting.path)
            if value == setting.value:
                continue
            file = self._root / setting.path
            if value is None:
                if not optional and setting.vital:
                    different.append(Found(setting, "", f"{file} does not exist in this kernel."))
                continue
            try:
                # Not write_text(), which would try to create and truncate.
                with file.open("r+", encoding="ascii") as handle:
                    handle.write(setting.value)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENODEV, errno.EINVAL} and not file.exists():
                    continue
                problem = f"{file} cannot be set to {setting.value}: {error.strerror}."
                different.append(Found(setting, value, problem))
            else:
                different.append(Found(setting, value))
        return different
