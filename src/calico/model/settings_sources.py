"""Where an agent's settings come from, and which source wins (behaviour reference 1.19).

In:   the environment (``FELIX_<NAME>``), the text of ``felix.cfg``, FelixConfiguration resources, the node's labels.
Out:  a ``Source`` each; ``resolve`` makes one ``Settings`` of them, and says where each value is from, what was not
      understood and what has no effect.
Next: ``agent.directives`` keeps the sources of a running agent.

A value that is not understood stands for the built-in default, also where a weaker source has a good one: as in
Calico the strongest source that names a parameter decides. "none" is the zero value, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from calico.model.address import parse_cidr
from calico.model.errors import ModelError, SelectorError
from calico.model.felix import DEFAULT, NODE, FelixConfiguration
from calico.model.felix_parameters import BY_TEXT_NAME, PARAMETERS, Idle, Parameter, Sets
from calico.model.felix_values import MASK, ProtoPort, seconds
from calico.model.numbers import TCP, protocol_number
from calico.model.settings import FailsafePort, Settings

NONE: Final = "none"


class Given(NamedTuple):
    """One value of one source."""

    value: Any
    written: str
    """How it stands in its source, for sentences."""
    refused: str = ""
    """Why it was not understood."""


class Source(NamedTuple):
    """One place that settings come from."""

    label: str
    values: Mapping[str, Given]
    """By the parameter's name."""
    problems: tuple[str, ...] = ()
    """What is wrong with the source beyond its values."""
    idle: tuple[str, ...] = ()
    """What has no effect, beyond parameters."""


class Chosen(NamedTuple):
    """A setting that is not the built-in one: the parameter, its value in words, and where that is from."""

    name: str
    value: str
    source: str


class Resolved(NamedTuple):
    """The settings that are in force, and what people should know about them."""

    settings: Settings
    chosen: tuple[Chosen, ...]
    problems: tuple[str, ...]
    idle: tuple[str, ...]


# --- the sources -------------------------------------------------------------------------------------

_CLUSTER: Final = "it is read from ClusterInformation"
_TOOL: Final = "it is a tool of the developers of Calico's own agent"
_ELSEWHERE: Final = {
    "calicoversion": _CLUSTER,
    "clusterguid": _CLUSTER,
    "clustertype": _CLUSTER,
    "debugbpfcgroupv2": _TOOL,
    "debugcpuprofilepath": _TOOL,
    "debugpanicafter": _TOOL,
    "debugsimulatedatarace": _TOOL,
    "felixhostname": "the node's name comes from --node, NODENAME, or the file nodename",
    "variant": _CLUSTER,
}
"""Names that are for the environment and the file only, and why they have no effect, in lower case."""

STORE: Final = frozenset(
    {"datastoretype", "etcdaddr", "etcdcafile", "etcdcertfile", "etcdendpoints", "etcdkeyfile", "etcdscheme"}
)
"""Names that say which store the agent reads, in lower case; ``datastore.connection`` makes something of them."""


def from_environment(variables: Mapping[str, str]) -> Source:
    """What variables called ``FELIX_<NAME>``, in any case, say. Empty ones say nothing."""
    return _from_texts("the environment", "{}={!r}", felix_variables(variables))


def felix_variables(variables: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Each variable that is called ``FELIX_<NAME>``, in any case; the name, and the value."""
    found = []
    for variable, text in variables.items():
        prefix, _, name = variable.partition("_")
        if prefix.upper() == "FELIX" and name:
            found.append((variable, name, text))
    return found


def from_file(label: str, text: str) -> Source:
    """What a file of lines ``Name = value`` under ``[global]`` says; ``label`` is its path."""
    try:
        texts = [(name, name, value) for name, value in felix_lines(label, text)]
    except ModelError as error:
        return broken(label, str(error))
    return _from_texts(label, f"{label}: {{}} = {{!r}}", texts)


def felix_lines(label: str, text: str) -> list[tuple[str, str]]:
    """The names and values of such a file; ModelError where it is none."""
    from configparser import ConfigParser, Error, MissingSectionHeaderError

    parser = ConfigParser(interpolation=None, strict=False, default_section="")
    try:
        try:
            parser.read_string(text, source=label)
        except MissingSectionHeaderError:
            parser.read_string(f"[global]\n{text}", source=label)
    except Error as error:
        raise ModelError(" ".join(str(error).split())) from error
    return [item for section in parser.sections() for item in parser.items(section)]


def broken(label: str, why: str) -> Source:
    """A source that cannot be read."""
    return Source(label, {}, (f"{label} cannot be read, and counts as empty: {why}",))


def _from_texts(label: str, form: str, texts: Iterable[tuple[str, str, str]]) -> Source:
    values: dict[str, Given] = {}
    problems: list[str] = []
    idle: list[str] = []
    for shown, name, text in texts:
        parameter = BY_TEXT_NAME.get(name.lower())
        if not text or name.lower() in STORE:
            continue
        if parameter is not None:
            values[parameter.name] = _read(parameter, text, form.format(shown, text))
        elif reason := _elsewhere(name.lower()):
            idle.append(f"{label}: {shown} has no effect: {reason}")
        else:
            problems.append(f"{label}: {shown}: there is no such parameter; {_nearest(name)}")
    return Source(label, values, tuple(problems), tuple(idle))


def _read(parameter: Parameter, text: str, written: str) -> Given:
    if text.lower() == NONE:
        return Given(NONE, written)
    try:
        value = parameter.shape.read(text)
    except ValueError as error:
        return Given(None, written, str(error))
    return _checked(parameter, value, written)


def _checked(parameter: Parameter, value: Any, written: str) -> Given:
    for finding in parameter.shape.check((), value):
        return Given(None, written, f"{finding.message}; {finding.remedy}")
    return Given(value, written)


def _elsewhere(name: str) -> str:
    return "the agent reads the store itself" if name.startswith("typha") else _ELSEWHERE.get(name, "")


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.lower(), BY_TEXT_NAME, n=1)
    return f"did you mean {BY_TEXT_NAME[close[0]].name}?" if close else "leave it out"


def from_resource(resource: FelixConfiguration) -> Source:
    """What a resource says."""
    label = f"FelixConfiguration/{resource.metadata.name}"
    given = resource.given()
    values = {}
    for parameter in PARAMETERS:
        if parameter.name in given and isinstance(parameter.effect, Sets | Idle):
            value = given[parameter.name]
            written = f"{label}: {parameter.name}: {_shown(value)}"
            none = isinstance(value, str) and value.lower() == NONE
            values[parameter.name] = Given(NONE, written) if none else _checked(parameter, value, written)
    return Source(label, values)


def applying(
    resources: Iterable[FelixConfiguration], node: str, labels: Mapping[str, str] | None
) -> tuple[list[Source], list[str]]:
    """The resources that concern a node, strongest first; and what was wrong with any.

    The node's own, the oldest whose selector matches its ``labels`` (None: it is not known), the one for all.
    """
    named = {resource.metadata.name: resource for resource in resources}
    own, for_all = named.pop(f"{NODE}{node}", None), named.pop(DEFAULT, None)
    others = [each for name, each in named.items() if not name.startswith(NODE)]
    matching, problems = _matching(others, labels)
    for later in matching[1:]:
        problems.append(
            f"FelixConfiguration/{later.metadata.name} matches this node, too, but "
            f"{matching[0].metadata.name!r} is older and counts; let one of them match only"
        )
    found = [each for each in (own, *matching[:1], for_all) if each is not None]
    return [from_resource(each) for each in found], problems


def _matching(
    resources: Sequence[FelixConfiguration], labels: Mapping[str, str] | None
) -> tuple[list[FelixConfiguration], list[str]]:
    """Those whose selector matches, oldest first."""
    from calico.model.selector import parse

    matching = []
    problems: list[str] = []
    for resource in resources:
        text = resource.given().get("nodeSelector")
        if not text:
            continue
        try:
            if labels is not None and parse(text).matches(labels):
                matching.append(resource)
        except SelectorError as error:
            problems.append(f"FelixConfiguration/{resource.metadata.name} concerns no node: {error}")
    return sorted(matching, key=_age), problems


def _age(resource: FelixConfiguration) -> tuple[bool, float, str]:
    text = resource.metadata.creation_timestamp or ""
    try:
        return False, datetime.fromisoformat(text).timestamp(), resource.metadata.name
    except ValueError:
        return True, 0.0, resource.metadata.name


# --- one of many -------------------------------------------------------------------------------------


def _failsafe(ports: Iterable[ProtoPort]) -> tuple[FailsafePort, ...]:
    return tuple(
        FailsafePort(
            protocol_number(each.protocol.upper()) if each.protocol else TCP,
            each.port,
            parse_cidr(each.net) if each.net else None,
        )
        for each in ports
    )


_MAKE: Final[dict[str, Callable[[Any], Any]]] = {
    "default_endpoint_to_host_action": str.capitalize,
    "established_flows": str.capitalize,
    "failsafe_inbound": _failsafe,
    "failsafe_outbound": _failsafe,
    "filter_deny_action": str.capitalize,
    "interface_prefix": lambda text: tuple(text.split(",")),
    "ip_forwarding": lambda text: text == "Enabled",
    "log_burst": lambda burst: max(1, burst),  # what kernels understand by none
    "log_severity": str.capitalize,
    "refresh_interval": seconds,
}
"""By field: what is made of a value that was checked. Others are taken as they are."""

_ZERO: Final[dict[str, Any]] = {
    "disable_conntrack_invalid_check": False,
    "failsafe_inbound": (),
    "failsafe_outbound": (),
    "ipv6_support": False,
    "log_prefix": "",
    "log_rate": "",
    "refresh_interval": 0.0,
}
"""By field: what "none" means. Others cannot be none."""


def resolve(sources: Sequence[Source], *, backend: str) -> Resolved:
    """One value for each setting: that of the strongest of ``sources``, which come strongest first.

    Of the twins ``iptables...`` and ``nftables...`` that of the ``backend`` counts, and the other only in a source
    that has not got it.
    """
    settings: dict[str, Any] = {}
    chosen: list[Chosen] = []
    problems = [problem for source in sources for problem in source.problems]
    idle = [sentence for source in sources for sentence in source.idle]
    for field, parameters in _parameters(backend).items():
        found = _strongest(parameters, sources)
        if found is not None:
            parameter, given, label = found
            value = _setting(field, given)
            if value is not None and value != getattr(_BUILT_IN, field):
                settings[field] = value
                shown = f"{value:#x}" if parameter.shape is MASK else _shown(given.value)
                chosen.append(Chosen(parameter.name, shown, label))
    problems += [
        _complaint(name, given)
        for source in sources
        for name, given in source.values.items()
        if _bad(name, given)
    ]
    idle += _without_effect(sources)
    return Resolved(Settings(**settings), tuple(chosen), tuple(problems), tuple(idle))


_BUILT_IN: Final = Settings()
_BY_NAME: Final = {parameter.name: parameter for parameter in PARAMETERS}


def _parameters(backend: str) -> dict[str, list[Parameter]]:
    """The parameters of each setting, the back end's own first."""
    found: dict[str, list[Parameter]] = {}
    for parameter in PARAMETERS:
        if isinstance(parameter.effect, Sets):
            of_field = found.setdefault(parameter.effect.field, [])
            of_field.insert(0 if parameter.name.startswith(backend) else len(of_field), parameter)
    return found


def _strongest(
    parameters: Sequence[Parameter], sources: Iterable[Source]
) -> tuple[Parameter, Given, str] | None:
    for source in sources:
        for parameter in parameters:
            given = source.values.get(parameter.name)
            if given is not None:
                return parameter, given, source.label
    return None


def _setting(field: str, given: Given) -> Any:
    """The setting that a value means; None for the built-in one."""
    if given.refused:
        return None
    if given.value == NONE:
        return _ZERO.get(field)
    return _MAKE.get(field, lambda value: value)(given.value)


def _bad(name: str, given: Given) -> bool:
    effect = _BY_NAME[name].effect
    return bool(given.refused) or (
        given.value == NONE and isinstance(effect, Sets) and effect.field not in _ZERO
    )


def _complaint(name: str, given: Given) -> str:
    why = given.refused or f"{name} cannot be none"
    return f"{given.written} is not understood ({why}); it stands for the built-in default"


def _without_effect(sources: Sequence[Source]) -> list[str]:
    """What is set and does nothing, each parameter as its strongest source has it."""
    said: set[str] = set()
    sentences = []
    for source in sources:
        for name, given in source.values.items():
            effect = _BY_NAME[name].effect
            if not isinstance(effect, Idle) or name in said:
                continue
            said.add(name)
            if given.value != NONE and not given.refused and effect.asks(given.value):
                sentences.append(f"{given.written} has no effect: {effect.reason}; {effect.remedy}")
    return sentences


def _shown(value: Any) -> str:
    """A value in words."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(_shown, value)) or "[]"
        case ProtoPort(port=port, protocol=protocol, net=net):
            return ":".join(
                filter(None, (protocol.lower() or "tcp", f"[{net}]" if ":" in net else net, str(port)))
            )
        case _:
            return str(value)
