"""Where things live on a host: three directories, each moved with one setting.

In:   the environment.
Out:  ``Paths``: data (/var/lib/calico, CALICO_DATA_DIR), run (/run/calico, CALICO_RUN_DIR),
      config (/etc/calico, CALICO_CONFIG_DIR).

Many agents share one machine by giving each its own run directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

AGENT_SOCKET = "agent.sock"
DATABASE = "calico.db"
CONFIGURATION = "calicoctl.cfg"


class Paths(NamedTuple):
    """The three directories."""

    data: Path
    run: Path
    config: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Paths:
        """The directories that ``environment`` asks for; the defaults of a host otherwise."""
        return cls(
            data=Path(environment.get("CALICO_DATA_DIR") or "/var/lib/calico"),
            run=Path(environment.get("CALICO_RUN_DIR") or "/run/calico"),
            config=Path(environment.get("CALICO_CONFIG_DIR") or "/etc/calico"),
        )

    @property
    def agent_socket(self) -> Path:
        """Where the agent answers questions about itself."""
        return self.run / AGENT_SOCKET

    @property
    def database(self) -> Path:
        """The SQLite store of a host that has no other."""
        return self.data / DATABASE

    @property
    def felix_cfg(self) -> Path:
        """The agent's settings on this host."""
        return self.config / "felix.cfg"

    @property
    def secrets(self) -> Path:
        """Passwords of BGP sessions: a directory for each secret, a file for each of its keys."""
        return self.config / "secrets"

    @property
    def labs(self) -> Path:
        """One directory for each lab of this machine."""
        return self.run / "lab"
