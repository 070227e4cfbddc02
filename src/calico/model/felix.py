"""FelixConfiguration: the settings of agents, for all nodes or for some (behaviour reference 1.19).

In:   ``felix_parameters``, the one table of parameters.
Out:  the kind; its spec has a field for each parameter, by Calico's own name, and None where it is not given.
Next: ``model.settings_sources`` makes an agent's settings of the resources that concern it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import defstruct, field

from calico.model.errors import Finding, Findings
from calico.model.felix_parameters import PARAMETERS, Idle
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict

DEFAULT: Final = "default"
"""The name of the resource for all nodes."""
NODE: Final = "node."
"""How the names of resources for one node begin."""

if TYPE_CHECKING:
    FelixConfigurationSpec = Strict
else:
    FelixConfigurationSpec = defstruct(
        "FelixConfigurationSpec",
        [(parameter.name, parameter.shape.annotation | None, None) for parameter in PARAMETERS],
        bases=(Strict,),
        module=__name__,
        namespace={"__doc__": "Every parameter, None where it is not given."},
        frozen=True,
        kw_only=True,
        rename=lambda name: name,
    )


class FelixConfiguration(Resource, frozen=True, kw_only=True, tag=True):
    """Settings for all nodes (``default``), for one (``node.<name>``), or for those that ``nodeSelector`` matches."""

    PLURAL: ClassVar[str] = "felixconfigurations"
    SHORT: ClassVar[tuple[str, ...]] = ("felixconfig", "felixconfigs")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("LOGSEVERITY", lambda r: r.given().get("logSeverityScreen", "")),
    )

    spec: FelixConfigurationSpec = field(default_factory=FelixConfigurationSpec)

    def given(self) -> dict[str, Any]:
        """The parameters that have a value, by name."""
        values = ((each.name, getattr(self.spec, each.name)) for each in PARAMETERS)
        return {name: value for name, value in values if value is not None and value != ""}

    def problems(self) -> Findings:
        """Values that are not allowed, and parameters that exclude each other."""
        given = self.given()
        for parameter in PARAMETERS:
            value = getattr(self.spec, parameter.name)
            if value is not None:
                yield from parameter.shape.check(("spec", parameter.name), value)
        if "routeTableRange" in given and "routeTableRanges" in given:
            yield Finding(
                ("spec", "routeTableRange"), "routeTableRanges is given, too", "keep routeTableRanges only"
            )
        name = self.metadata.name
        if "nodeSelector" in given and (name == DEFAULT or name.startswith(NODE)):
            yield Finding(
                ("spec", "nodeSelector"),
                f"{name!r} says already which nodes it is for",
                "remove the selector, or choose another name for the resource",
            )

    def not_done(self) -> Findings:
        """Parameters that this agent does not act on, and a resource that is for no node."""
        given = self.given()
        name = self.metadata.name
        if name != DEFAULT and not name.startswith(NODE) and "nodeSelector" not in given:
            yield Finding(
                ("metadata", "name"),
                f"{name!r} is for no node: it has no nodeSelector",
                f"add one, or call it {DEFAULT!r} (all nodes) or '{NODE}<name>' (one node)",
            )
        for parameter in PARAMETERS:
            match parameter.effect:
                case Idle() as idle if parameter.name in given and idle.asks(given[parameter.name]):
                    yield Finding(("spec", parameter.name), f"it is stored, but {idle.reason}", idle.remedy)
