"""Which store a command uses, and opening it.

In:   flags, the environment, ``calicoctl.cfg``, what is there on this machine.
Out:  an open ``Store``, and where it was found.

First match wins: a lab by name, flags, environment, configuration file, an existing database of this host, the
only running lab (said on stderr), a new database of this host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from calico.paths import DATABASE, Paths

if TYPE_CHECKING:
    from calico.datastore.api import Store

F = TypeVar("F", bound=Callable[..., Any])

_NOT_YET = {
    "etcdv3": "etcd is not supported yet",
    "kubernetes": "the Kubernetes API as a store is not supported yet",
}


@dataclass(frozen=True)
class Choice:
    """What the command line says about the store."""

    lab: str | None = None
    path: str | None = None
    config: str | None = None

    def over(self, other: Choice) -> Choice:
        """This choice, with ``other`` filling what it leaves open."""
        return Choice(self.lab or other.lab, self.path or other.path, self.config or other.config)


@dataclass(frozen=True)
class Location:
    """A SQLite store, and why it was chosen."""

    path: Path
    reason: str
    notice: bool = False
    """Whether the choice is one that a person should be told of."""


def store_options(function: F) -> F:
    """Add ``--lab``, ``--datastore-path`` and ``--config`` to a command, which gets a ``Location`` as ``location``."""

    @click.option("--lab", "lab_name", metavar="NAME", help="Use the store of the lab NAME.")
    @click.option("--datastore-path", metavar="FILE", help="Use this SQLite store.")
    @click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        help="Connection settings; default /etc/calico/calicoctl.cfg.",
    )
    @click.pass_context
    def with_location(
        ctx: click.Context,
        /,
        *args: Any,
        lab_name: str | None,
        datastore_path: str | None,
        config_file: str | None,
        **kwargs: Any,
    ) -> Any:
        choice = Choice(lab_name, datastore_path, config_file)
        outer = ctx.find_object(Choice)
        location = locate(choice.over(outer) if outer else choice, os.environ)
        if location.notice:
            click.echo(location.reason, err=True)
        return ctx.invoke(function, *args, location=location, **kwargs)

    with_location.__name__ = function.__name__
    with_location.__doc__ = function.__doc__
    params = getattr(function, "__click_params__", [])
    with_location.__click_params__ = [*with_location.__click_params__, *params]  # type: ignore[attr-defined]  # click's own way
    return with_location  # type: ignore[return-value]  # the same command, with three options more


def locate(choice: Choice, environment: Mapping[str, str]) -> Location:
    """The store to use; ``click.UsageError`` where the choice cannot be carried out."""
    paths = Paths.of(environment)
    if choice.lab:
        return _lab(paths, choice.lab)
    if choice.path:
        return Location(Path(choice.path), "--datastore-path")
    kind = environment.get("DATASTORE_TYPE", "")
    if kind or environment.get("CALICO_SQLITE_PATH"):
        return _typed(
            kind or "sqlite", environment.get("CALICO_SQLITE_PATH"), paths, "the environment (DATASTORE_TYPE)"
        )
    configured = _configuration(choice.config, paths)
    if configured is not None:
        return configured
    if paths.database.exists():
        return Location(paths.database, f"{paths.database} exists")
    labs = running_labs(paths)
    if len(labs) == 1:
        return Location(
            paths.labs / labs[0] / DATABASE,
            f"using the store of lab {labs[0]!r}, the only one running",
            notice=True,
        )
    if labs:
        raise click.UsageError(f"several labs are running ({', '.join(labs)}): say which with --lab NAME")
    return Location(paths.database, "a new store")


def running_labs(paths: Paths) -> list[str]:
    """The names of the labs on this machine that have a store."""
    if not paths.labs.is_dir():
        return []
    return sorted(entry.name for entry in paths.labs.iterdir() if (entry / DATABASE).exists())


def open_store(location: Location) -> Store:
    """Open (or make) the store at ``location``."""
    from calico.datastore.sqlite import SQLiteStore

    return SQLiteStore(location.path)


def _lab(paths: Paths, name: str) -> Location:
    path = paths.labs / name / DATABASE
    if not path.exists():
        labs = running_labs(paths)
        there = f"running: {', '.join(labs)}" if labs else "none is running; build one with: calicoctl lab up"
        raise click.UsageError(f"there is no lab {name!r} ({there})")
    return Location(path, f"--lab {name}")


def _typed(kind: str, path: str | None, paths: Paths, origin: str) -> Location:
    if kind == "sqlite":
        return Location(Path(path) if path else paths.database, origin)
    if kind in _NOT_YET:
        raise click.UsageError(f"{_NOT_YET[kind]} ({origin} asks for {kind!r}); use sqlite")
    raise click.UsageError(
        f"{origin} asks for a store of type {kind!r}; known are sqlite, etcdv3, kubernetes"
    )


def _configuration(given: str | None, paths: Paths) -> Location | None:
    file = Path(given) if given else paths.config / "calicoctl.cfg"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if given:
            raise click.UsageError(f"{file}: no such file (given by --config)") from None
        return None
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.UsageError(f"{file}: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "CalicoAPIConfig":
        raise click.UsageError(f"{file}: a document of kind CalicoAPIConfig is expected")
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise click.UsageError(f"{file}: spec: a mapping is expected")
    return _typed(str(spec.get("datastoreType") or "etcdv3"), spec.get("sqlitePath"), paths, str(file))
