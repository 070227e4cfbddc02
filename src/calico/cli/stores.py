"""Which store a command uses, and opening it.

In:   flags, the environment, ``calicoctl.cfg``, what is there on this machine.
Out:  an open ``Store``, and where it was found.

First match wins: a lab by name, flags, environment, configuration file, an existing database of this host, the
only running lab (said on stderr), a new database of this host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from calico.paths import DATABASE, Paths

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from calico.datastore.api import Store

F = TypeVar("F", bound=Callable[..., Any])

_NOT_YET = {
    "etcdv3": "etcd is not supported yet",
    "kubernetes": "the Kubernetes API as a store is not supported yet",
}


class WrongStore(click.UsageError):
    """The store that is asked for cannot be used; how the command is written is not to blame."""

    def show(self, file: IO[Any] | None = None) -> None:
        """The sentence alone."""
        click.echo(f"Error: {self.message}", file=file, err=True)


class Choice(NamedTuple):
    """What the command line says about the store; None where it says nothing."""

    lab: str | None = None
    path: str | None = None
    config: str | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Choice:
        """The choice that the parameters of a command make."""
        return cls(
            parameters.get("lab_name"), parameters.get("datastore_path"), parameters.get("config_file")
        )

    def over(self, other: Choice) -> Choice:
        """This choice, with ``other`` filling what it leaves open."""
        return Choice(*(theirs if ours is None else ours for ours, theirs in zip(self, other, strict=True)))


class Location(NamedTuple):
    """A SQLite store, and why it was chosen."""

    path: Path
    reason: str
    notice: bool = False
    """Whether the choice is one that a person should be told of."""


def store_options(function: F) -> F:
    """Add ``--lab``, ``--datastore-path`` and ``--config`` to a command, which gets a ``Location`` as ``location``.

    A group gets None when one of its commands is to do the work: no store is looked for in vain.
    """

    @click.option(
        "--lab",
        "lab_name",
        metavar="NAME",
        help="Use the store of the lab NAME.",
        shell_complete=complete_labs,
    )
    @click.option(
        "--datastore-path", metavar="FILE", type=click.Path(readable=False), help="Use this SQLite store."
    )
    @click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(readable=False),
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
        if ctx.invoked_subcommand is not None:
            return ctx.invoke(function, *args, location=None, **kwargs)
        choice = Choice(lab_name, datastore_path, config_file)
        outer = ctx.find_object(Choice)
        location = locate(choice.over(outer) if outer else choice, os.environ)
        if location.notice:
            click.echo(f"using the store of {location.reason}", err=True)
        return ctx.invoke(function, *args, location=location, **kwargs)

    with_location.__name__ = function.__name__
    with_location.__doc__ = function.__doc__
    params = getattr(function, "__click_params__", [])
    with_location.__click_params__ = [*with_location.__click_params__, *params]  # type: ignore[attr-defined]  # click's own way
    return with_location  # type: ignore[return-value]  # the same command, with three options more


def complete_labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may stand after ``--lab``."""
    from calico.cli.completion import labs

    return labs(ctx, param, incomplete)


def locate(choice: Choice, environment: Mapping[str, str]) -> Location:
    """The store to use; ``WrongStore`` where the choice cannot be carried out."""
    try:
        return _locate(choice, environment)
    except PermissionError as error:
        raise click.ClickException(
            f"{error.filename} may not be read by this user; run as root, or name a store of yours"
            " with --datastore-path"
        ) from error


def _locate(choice: Choice, environment: Mapping[str, str]) -> Location:
    for option, value in zip(("--lab", "--datastore-path", "--config"), choice, strict=True):
        if value == "":  # an unset variable of a script must not lead to another store
            raise WrongStore(f"{option} is given, but its value is empty; give one, or drop the option")
    paths = Paths.of(environment)
    if choice.lab is not None:
        return _lab(paths, choice.lab)
    if choice.path is not None:
        return Location(Path(choice.path), "--datastore-path")
    kind = environment.get("DATASTORE_TYPE", "")
    path = environment.get("CALICO_SQLITE_PATH", "")
    if kind or path:
        variable = f"DATASTORE_TYPE={kind}" if kind else f"CALICO_SQLITE_PATH={path}"
        return _typed(kind or "sqlite", path, paths, f"the environment ({variable})")
    configured = _configuration(choice.config, paths)
    if configured is not None:
        return configured
    if paths.database.exists():
        return Location(paths.database, "default")
    labs = running_labs(paths)
    if len(labs) == 1:
        return Location(
            paths.labs / labs[0] / DATABASE,
            f"lab {labs[0]!r}, the only one running",
            notice=True,
        )
    if labs:
        raise WrongStore(f"several labs are running ({', '.join(labs)}): say which with --lab NAME")
    return Location(paths.database, "default")


def running_labs(paths: Paths) -> list[str]:
    """The names of the labs on this machine that have a store."""
    if not paths.labs.is_dir():
        return []
    return sorted(entry.name for entry in paths.labs.iterdir() if (entry / DATABASE).exists())


def open_store(location: Location, *, make: bool = True) -> Store:
    """The store at ``location``, made by the first write to it; StoreError if there is something else.

    Without ``make`` a store that is not there is an empty one, and a person is told. A file made by looking
    would from then on be this host's store, before any lab's.
    """
    try:
        there = location.path.exists()
        if location.path.is_dir():
            raise WrongStore(f"{location.path} is a directory; name the file of a store, which may be in it")
        for parent in location.path.parents:
            if parent.exists() and not parent.is_dir():
                raise WrongStore(f"{location.path}: {parent} is a file, not a directory; name another place")
        if there and not os.access(location.path, os.R_OK | os.W_OK):
            raise PermissionError  # noqa: TRY301  said once, for the ways in which it shows
    except PermissionError as error:
        raise click.ClickException(
            f"{location.path} may not be read by this user; run as its owner (sudo), or name another store"
        ) from error
    if not there and not make:
        from calico.datastore.memory import MemoryStore

        click.echo(f"there is no store at {location.path} yet; 'calicoctl apply' makes it", err=True)
        return MemoryStore()
    from calico.datastore.sqlite import SQLiteStore

    return SQLiteStore(location.path)


def _lab(paths: Paths, name: str) -> Location:
    path = paths.labs / name / DATABASE
    if not path.exists():
        labs = running_labs(paths)
        there = f"running: {', '.join(labs)}" if labs else "none is running; build one with: calicoctl lab up"
        raise WrongStore(f"there is no lab {name!r} ({there})")
    return Location(path, f"--lab {name}")


def _typed(kind: str, path: str, paths: Paths, origin: str) -> Location:
    if kind == "sqlite":
        return Location(Path(path) if path else paths.database, origin)
    if kind in _NOT_YET:
        raise WrongStore(f"{origin}: {_NOT_YET[kind]}; use sqlite")
    raise WrongStore(f"{origin}: there is no store of type {kind!r}; known are sqlite, etcdv3, kubernetes")


def _configuration(given: str | None, paths: Paths) -> Location | None:
    file = Path(given) if given else paths.config / "calicoctl.cfg"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if given:
            raise WrongStore(f"{file}: no such file (given by --config)") from None
        return None
    except PermissionError:
        raise
    except OSError as error:
        raise WrongStore(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongStore(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongStore(f"{file}: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "CalicoAPIConfig":
        raise WrongStore(f"{file}: a document of kind CalicoAPIConfig is expected")
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise WrongStore(f"{file}: spec: a mapping is expected")
    path = spec.get("sqlitePath") or ""
    if not isinstance(path, str):
        raise WrongStore(f"{file}: spec.sqlitePath: {path!r} is no path; write it as text")
    return _typed(str(spec.get("datastoreType") or "etcdv3"), path, paths, str(file))
