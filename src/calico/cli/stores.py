"""Which store a command uses, and opening it.

In:   flags, the environment, ``calicoctl.cfg``, what is there on this machine.
Out:  an open ``Store``, and where it was found.

First match wins:

1. ``--lab``, ``--datastore-path`` or ``--etcd-endpoints``; with the last, the environment says how to be let in;
2. ``--config``: that file alone;
3. the environment, if it says where the store is, alone;
4. ``/etc/calico/calicoctl.cfg``, with what else the environment says put over it;
5. an existing database of this host, the only running lab (said on stderr), a new database of this host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from calico.datastore.connection import (
    BadSetting,
    Setting,
    from_config,
    from_environment,
    from_felix,
    names_a_store,
    over,
)
from calico.datastore.location import Datastore
from calico.paths import CONFIGURATION, DATABASE, Paths

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from calico.datastore.api import Store

F = TypeVar("F", bound=Callable[..., Any])


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
    endpoints: str | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Choice:
        """The choice that the parameters of a command make."""
        return cls(*(parameters.get(name) for name in _PARAMETERS))

    def over(self, other: Choice) -> Choice:
        """This choice if it says anything, else ``other``."""
        return other if all(value is None for value in self) else self


_PARAMETERS = ("lab_name", "datastore_path", "config_file", "etcd_endpoints")
_OPTIONS = ("--lab", "--datastore-path", "--config", "--etcd-endpoints")


class Location(NamedTuple):
    """A store, and why it was chosen."""

    store: Datastore
    reason: str
    notice: str = ""
    """What a person should be told of the choice."""


def choice_options(function: F) -> F:
    """Add the options that choose the store; the command gets their values as ``Choice.of`` takes them."""
    for option in (
        click.option(
            "-c",
            "--config",
            "config_file",
            metavar="FILE",
            type=click.Path(readable=False),
            help="Read connection settings from FILE alone; default /etc/calico/calicoctl.cfg.",
        ),
        click.option(
            "--etcd-endpoints",
            metavar="URL,...",
            help="Use this etcd; who asks, and certificates, are said by ETCD_USERNAME, ETCD_CA_CERT_FILE, ...",
        ),
        click.option(
            "--datastore-path",
            metavar="FILE",
            type=click.Path(readable=False),
            help="Use this SQLite store (environment: CALICO_SQLITE_PATH).",
        ),
        click.option(
            "--lab",
            "lab_name",
            metavar="NAME",
            help="Use the store of the lab NAME.",
            shell_complete=complete_labs,
        ),
    ):
        function = option(function)
    return function


def store_options(function: F) -> F:
    """Add the options that choose the store to a command, which gets a ``Location`` as ``location``.

    A group gets None when one of its commands is to do the work: no store is looked for in vain.
    """
    return _with_location(function, agent=False)


def store_options_unless_files(function: F) -> F:
    """As ``store_options``, for a command that with ``-f`` asks no store: it gets None then, and none is looked for."""
    return _with_location(function, agent=False, unless="files")


def agent_store_options(function: F) -> F:
    """As ``store_options``, for the agent: it is told in the words of Calico's agent, too (``FELIX_ETCDENDPOINTS``, ``felix.cfg``)."""
    return _with_location(function, agent=True)


def _with_location(function: F, *, agent: bool, unless: str = "") -> F:
    @choice_options
    @click.pass_context
    def with_location(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        choice = Choice.of({name: kwargs.pop(name) for name in _PARAMETERS})
        if ctx.invoked_subcommand is not None or (unless and kwargs[unless]):
            return ctx.invoke(function, *args, location=None, **kwargs)
        outer = ctx.find_object(Choice)
        location = locate(choice.over(outer) if outer else choice, os.environ, agent=agent)
        if location.notice:
            click.echo(location.notice, err=True)
        return ctx.invoke(function, *args, location=location, **kwargs)

    with_location.__name__ = function.__name__
    with_location.__doc__ = function.__doc__
    params = getattr(function, "__click_params__", [])
    with_location.__click_params__ = [*with_location.__click_params__, *params]  # type: ignore[attr-defined]  # click's own way
    return with_location  # type: ignore[return-value]  # the same command, with some options more


def complete_labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may stand after ``--lab``."""
    from calico.cli.completion import labs

    return labs(ctx, param, incomplete)


def locate(choice: Choice, environment: Mapping[str, str], *, agent: bool = False) -> Location:
    """The store to use; ``WrongStore`` where the choice cannot be carried out."""
    try:
        return _locate(choice, environment, agent=agent)
    except BadSetting as error:
        raise WrongStore(str(error)) from error
    except PermissionError as error:
        raise click.ClickException(
            f"{error.filename} may not be read by this user; run as root, or name a store of yours"
            " with --datastore-path"
        ) from error


def _locate(choice: Choice, environment: Mapping[str, str], *, agent: bool) -> Location:
    given = [option for option, value in zip(_OPTIONS, choice, strict=True) if value is not None]
    if "" in choice:  # an unset variable of a script must not lead to another store
        option = _OPTIONS[choice.index("")]
        raise WrongStore(f"{option} is given, but its value is empty; give one, or drop the option")
    if len(given) > 1:
        raise WrongStore(f"{' and '.join(given)} name two stores; use one of them")
    paths = Paths.of(environment)
    if choice.lab is not None:
        return _lab(paths, choice.lab)
    if choice.path is not None:
        return Location(Datastore(Path(choice.path)), given[0])
    said = from_environment(environment)
    if agent:
        said = over(_felix(paths, environment), said)
    if choice.endpoints is not None:
        flag = {"type": Setting("etcdv3", given[0]), "endpoints": Setting(choice.endpoints, given[0])}
        return Location(Datastore.of(over(flag, said), paths.database), given[0])
    if choice.config is not None:
        file = Path(choice.config)
        configured = _configured(file)
        if configured is None:
            raise WrongStore(f"{file}: no such file (given by --config)")
        return Location(Datastore.of(configured, paths.database, str(file)), str(file))
    if names_a_store(said):
        return Location(Datastore.of(said, paths.database), _environment(said))
    file = paths.config / CONFIGURATION
    configured = _configured(file)
    if configured is not None:
        return Location(Datastore.of(over(said, configured), paths.database, str(file)), str(file))
    if "type" in said:
        return Location(Datastore.of(said, paths.database), _environment(said))
    return _found(paths)


def _felix(paths: Paths, environment: Mapping[str, str]) -> dict[str, Setting]:
    """What Calico's agent would be told of its store."""
    try:
        text = paths.felix_cfg.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError as error:
        raise WrongStore(
            f"{paths.felix_cfg}: byte {error.start} is not UTF-8; save it as UTF-8 text"
        ) from error
    return from_felix(environment, text, str(paths.felix_cfg))


def _environment(said: Mapping[str, Setting]) -> str:
    """The variable that decides (or, for an agent, line of ``felix.cfg``), with its value where it is no address."""
    for name in ("type", "sqlite_path"):
        if name in said:
            return f"the environment ({said[name].source}={said[name].value})"
    decisive = said.get("endpoints") or said["discovery_srv"]
    return f"the environment ({decisive.source})"


def _found(paths: Paths) -> Location:
    """What is there on this machine, where nobody said which store is meant."""
    labs = running_labs(paths)
    if paths.database.exists():
        beside = f"using {paths.database}; --lab {labs[0]} uses the running lab's store" if labs else ""
        return Location(Datastore(paths.database), "default", beside)
    if len(labs) == 1:
        reason = f"lab {labs[0]!r}, the only one running"
        return _lab(paths, labs[0])._replace(reason=reason, notice=f"using the store of {reason}")
    if labs:
        raise WrongStore(f"several labs are running ({', '.join(labs)}): say which with --lab NAME")
    return Location(Datastore(paths.database), "default")


def running_labs(paths: Paths) -> list[str]:
    """The names of the labs on this machine that have a store."""
    if not paths.labs.is_dir():
        return []
    return sorted(
        entry.name
        for entry in paths.labs.iterdir()
        if any((entry / file).exists() for file in (CONFIGURATION, DATABASE))
    )


def open_store(location: Location, *, make: bool = True, direct: bool = False) -> Store:
    """The store at ``location``; a SQLite file is made by the first write to it. StoreError if there is something else.

    Without ``make`` a file that is not there is an empty store, and a person is told. A file made by looking
    would from then on be this host's store, before any lab's. With ``direct`` a file that is there is opened as a
    ``DirectStore``.
    """
    file = location.store.file
    if file is not None and not _is_there(file) and not make:
        from calico.datastore.memory import MemoryStore

        click.echo(f"there is no store at {file} yet; 'calicoctl apply' makes it", err=True)
        return MemoryStore()
    if file is not None and direct:
        from calico.datastore.direct import DirectStore

        return DirectStore(file)
    return location.store.open()


def _is_there(file: Path) -> bool:
    """Whether the file is there, and may be used; an error of the command where no store can be."""
    try:
        there = file.exists()
        if file.is_dir():
            raise WrongStore(f"{file} is a directory; name the file of a store, which may be in it")
        for parent in file.parents:
            if parent.exists() and not parent.is_dir():
                raise WrongStore(f"{file}: {parent} is a file, not a directory; name another place")
        if there and not os.access(file, os.R_OK | os.W_OK):
            raise PermissionError  # noqa: TRY301  said once, for the ways in which it shows
    except PermissionError as error:
        raise click.ClickException(
            f"{file} may not be read by this user; run as its owner (sudo), or name another store"
        ) from error
    return there


def _lab(paths: Paths, name: str) -> Location:
    """The store of a lab: as the configuration in its directory says, or the database there."""
    directory = paths.labs / name
    configured = _configured(directory / CONFIGURATION)
    if configured is not None:
        return Location(Datastore.of(configured, directory / DATABASE, f"--lab {name}"), f"--lab {name}")
    if not (directory / DATABASE).exists():
        labs = running_labs(paths)
        there = f"running: {', '.join(labs)}" if labs else "none is running; build one with: calicoctl lab up"
        raise WrongStore(f"there is no lab {name!r} ({there})")
    return Location(Datastore(directory / DATABASE), f"--lab {name}")


def _configured(file: Path) -> dict[str, Setting] | None:
    """What the configuration file says; None where there is none."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except OSError as error:
        raise WrongStore(f"{file}: {error.strerror}") from error
    return from_config(content, str(file))
