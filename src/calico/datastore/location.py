"""Where a store is, as a value; and opening it.

In:   the path of a SQLite file, or how to reach an etcd.
Out:  a ``Store``; nothing is read, made or connected before its first call.
Next: ``cli`` and the agent, which find out which store is meant (``datastore.connection``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calico.datastore.api import Store
from calico.datastore.connection import Given, connection
from calico.datastore.etcd_settings import EtcdSettings


@dataclass(frozen=True, slots=True)
class Datastore:
    """A store of any kind, by the place where it is."""

    where: Path | EtcdSettings
    """A SQLite file, or an etcd."""

    @classmethod
    def of(cls, given: Given, default: Path, origin: str = "") -> Datastore:
        """What the settings name; the SQLite file ``default`` where they leave its path open. May raise ``BadSetting``."""
        where = connection(given, str(default), origin)
        return cls(Path(where) if isinstance(where, str) else where)

    @property
    def file(self) -> Path | None:
        """The file, if it is one."""
        return self.where if isinstance(self.where, Path) else None

    def check(self) -> None:
        """StoreError where the packages that the store needs are not installed."""
        if isinstance(self.where, EtcdSettings):
            import calico.datastore.etcd  # noqa: F401  importing it is the check

    def open(self, *, make: bool = True) -> Store:
        """The store. A SQLite file that is missing is made by the first call, or, without ``make``, is a lost store.

        StoreError where the packages for it are not installed.
        """
        if isinstance(self.where, EtcdSettings):
            from calico.datastore.etcd import EtcdStore

            return EtcdStore(self.where)
        from calico.datastore.sqlite import SQLiteStore

        return SQLiteStore(self.where, make=make)

    def __str__(self) -> str:
        """The place, as people are told it: without user and password."""
        if isinstance(self.where, Path):
            return str(self.where)
        place = ",".join(map(str, self.where.endpoints)) or f"the members of {self.where.discovery_srv}"
        return f"etcd {place}" + (f" under {self.where.prefix}" if self.where.prefix else "")
