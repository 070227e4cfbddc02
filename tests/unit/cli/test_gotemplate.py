"""Go's templates over resources: the documented subset, and what is said of the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from calico.cli.fields import Listing
from calico.cli.gotemplate import Template
from calico.cli.template_functions import names
from calico.cli.template_text import BadTemplate
from calico.model import codec
from calico.model.keys import KINDS

POOLS = codec.load("""\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one, labels: {b: x, a: y}}
spec: {cidr: 10.1.0.0/16, allowedUses: [Workload, Tunnel]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: two}
spec: {cidr: 10.2.0.0/16, natOutgoing: true}
""")
TIER = codec.load("""\
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: late}
spec: {order: 1000000}
""")
LISTED = [Listing(KINDS["IPPool"], POOLS)]


def _render(text: str) -> str:
    return Template(text).render(LISTED, lambda _: "64512")


def _one(text: str) -> str:
    return Template("{{range .}}" + text + "{{end}}").render(POOLS[:1])


def test_the_dot_is_a_list_of_what_was_asked_for() -> None:
    """All of a kind are one entry with Items, as templates for calicoctl are written; names are one entry each."""
    text = "{{range .}}{{range .Items}}{{.ObjectMeta.Name}} {{end}}{{end}}"
    assert _render(text) == "one two "
    assert Template("{{range .}}{{.ObjectMeta.Name}} {{end}}").render(POOLS) == "one two "


def test_all_resources_are_items_of_the_dot_too() -> None:
    """As templates for kubectl are written."""
    assert (
        _render("{{range .items}}{{.metadata.name}}={{.spec.cidr}} {{end}}")
        == "one=10.1.0.0/16 two=10.2.0.0/16 "
    )


FIELDS = {
    "{{.Name}}": "one",
    "{{.Kind}} {{.TypeMeta.Kind}} {{.APIVersion}}": "IPPool IPPool projectcalico.org/v3",
    "{{.Spec.CIDR}} {{.spec.cidr}}": "10.1.0.0/16 10.1.0.0/16",
    "{{.Spec.NATOutgoing}} {{.Spec.Disabled}}": "false false",
    "{{.Namespace}}|{{.ObjectMeta.UID}}": "|",
    "{{.Spec.AllowedUses}}": "[Workload Tunnel]",
    "{{.Labels}} {{.Labels.a}} {{.Labels.zz}}": "map[a:y b:x] y <no value>",
    "{{.Status}} {{.Status.Conditions}}": "<nil> <nil>",
    "{{.Spec.BlockSize}}": "<nil>",
    '{{index .Labels "a"}}{{index .Labels "zz"}}': "y",
    "{{index .Spec.AllowedUses 1}}": "Tunnel",
    "{{slice .Spec.AllowedUses 1}} {{slice .Spec.CIDR 0 4}}": "[Tunnel] 10.1",
}


@pytest.mark.parametrize("text", FIELDS)
def test_fields(text: str) -> None:
    """Fields have Go's names or those of YAML, their defaults, and Go's way to be shown."""
    assert _one(text) == FIELDS[text]


PROGRAMS = {
    # conditions and what counts as true
    "{{range .Items}}{{if .Spec.NATOutgoing}}nat{{else if eq .Name `one`}}first{{else}}none{{end}} {{end}}": "first nat ",
    "{{if .}}a{{end}}{{if 0}}b{{end}}{{if ``}}c{{end}}{{if nil}}d{{end}}{{if (index .Items 0).Spec}}e{{end}}": "ae",
    "{{if true}}{{else}}{{if true}}x{{end}}y{{end}}z": "z",
    # variables and their ends
    "{{$n := 1}}{{range .Items}}{{$n = 2}}{{end}}{{$n}}": "2",
    "{{$n := 1}}{{range .Items}}{{$n := 2}}{{end}}{{$n}}": "1",
    "{{range $i, $e := .Items}}{{$i}}{{$e.Name}}{{end}}": "0one1two",
    "{{range $e := .Items}}{{$e.Name}}{{end}}": "onetwo",
    "{{range .Items}}{{range $key, $value := .Labels}}{{$key}}={{$value}};{{else}}none{{end}}{{end}}": "a=y;b=x;none",
    "{{range .Items}}{{len $.Items}}{{end}}": "22",
    "{{range 3}}{{.}}{{end}}": "012",
    "{{range .Items}}{{if eq .Name `two`}}{{break}}{{end}}{{.Name}}{{end}}": "one",
    "{{range .Items}}{{if eq .Name `one`}}{{continue}}{{end}}{{.Name}}{{end}}": "two",
    "{{with (index .Items 0).Labels}}{{.a}}{{end}}{{with nil}}x{{else}}none{{end}}": "ynone",
    # pipelines
    "{{.Items | len}} {{len .Items | printf `%03d`}}": "2 002",
    "{{(index .Items 1).Spec.CIDR | printf `%s %s` `to`}}": "to 10.2.0.0/16",
    # blanks and comments
    "a {{- /* why */ -}} b {{- 1 -}} c": "ab1c",
    "a\n{{- `x` }} \n{{ 3 -}}\n b": "ax \n3b",
    "{{/* nothing */}}{{ -3 }}": "-3",
    # functions
    "{{and 1 0 2}} {{and 1 2}} {{or 0 `x`}} {{not 1}} {{not nil}}": "0 2 x false true",
    "{{eq 1 1.0}} {{eq 1 `1`}} {{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{gt `b` `a`}} {{le 2 2}} {{ge 1 2}}": "true false true true true true true false",
    "{{join (index .Items 0).Spec.AllowedUses `,`}} {{join (index .Items 0).Labels ` `}}|{{join nil `,`}}": "Workload,Tunnel a=y b=x|",
    "{{joinAndTruncate (index .Items 0).Spec.AllowedUses `,` 10}}": "Workloa...",
    "{{print 1 2 `a` 3}} {{println 1 `b`}}{{config `asnumber`}}": "1 2a3 1 b\n64512",
    '{{printf "%-4s|%4d|%q|%v|%t|%.2f|%x|%c|%%" "a" 7 "b" true false 1.5 255 65}}': 'a   |   7|"b"|true|false|1.50|ff|A|%',
    '{{printf "a\\tb\\n"}}{{"é" | len}}{{`raw\\n`}}': "a\tb\n2raw\\n",
}


@pytest.mark.parametrize("text", PROGRAMS)
def test_programs(text: str) -> None:
    """Control, variables, pipelines and functions do as in Go."""
    assert _render(text) == PROGRAMS[text]


def test_large_whole_numbers_have_no_exponent() -> None:
    """Go would write the order of a tier as 1e+06."""
    assert Template("{{range .}}{{.Spec.Order}}{{end}}").render(TIER) == "1000000"


BROKEN = {
    "{{range .Items}}": (0, "{{range}} has no {{end}}"),
    "a{{end}}": (1, "{{end}} ends nothing here"),
    "{{if}}": (0, "{{if}} says nothing"),
    "{{else}}": (0, "no open"),
    "{{}}": (0, "nothing stands between"),
    "{{.A": (0, "no }} after it"),
    '{{"abc}}': (2, "a text does not end"),
    "{{/* x": (0, "the comment does not end"),
    "{{/* x */ .A}}": (7, "not alone"),
    "{{upper .A}}": (2, "there is no function 'upper'"),
    "{{jion .A 1}}": (2, "did you mean join"),
    '{{template "x"}}': (0, "{{template}} is not supported"),
    "{{1 |}}": (4, "a value is missing"),
    "{{1 | 2}}": (6, "no function"),
    "{{.A .B}}": (5, "no function"),
    "{{(1}}": (2, "( has no )"),
    "{{break}}": (0, "stands in no {{range}}"),
    "{{1 # 2}}": (4, "'#' makes no sense"),
    "{{012}}": (2, "no number"),
    r'{{"\d"}}': (2, "not understood"),
    "{{if true}}{{else range .}}{{end}}": (18, "not understood"),
    "{{if true}}" * 101: (1100, "nest more than 100 deep"),
    "{{if true}}" + "{{else if true}}" * 100: (1595, "more than 100 branches"),
    "{{" + "(" * 101 + "1" + ")" * 101 + "}}": (102, "parentheses nest more"),
    "{{1e400}}": (2, "too large"),
    r'{{"\ud800"}}': (2, "no character"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_cannot_be_read_is_refused_with_its_place(text: str) -> None:
    """Before anything is looked up: where, and what is wrong."""
    with pytest.raises(BadTemplate) as caught:
        Template(text)
    at, words = BROKEN[text]
    assert (caught.value.at, words in str(caught.value)) == (at, True), str(caught.value)


USELESS = {
    "{{range .Items}}{{.Spec.CDIR}}{{end}}": (18, "did you mean cidr"),
    "{{.Spec}}": (2, "go into it with {{range .}}"),
    "{{range .}}{{.Spec}}{{end}}": (13, "IPPoolList has no field 'Spec'"),
    "{{range .}}{{range .}}{{end}}{{end}}": (11, "range over its .Items"),
    "{{$x}}": (2, "no variable $x"),
    "{{$x = 1}}": (2, "no variable $x"),
    "{{lt 1 `a`}}": (2, "no order"),
    "{{len 1}}": (2, "has no length"),
    "{{index .Items 9}}": (2, "beyond the list"),
    "{{printf `%d` `a`}}": (2, "%d cannot show text"),
    "{{printf `%d`}}": (2, "no value for %d"),
    "{{printf `a` 1}}": (2, "no % in the pattern"),
    "{{eq 1}}": (2, "cannot be called with 1 values"),
    "{{config `name`}}": (2, "no setting 'name'"),
    "{{slice `abc` 2 9}}": (2, "beyond its length"),
    "{{(1).x}}": (2, "a number has no fields"),
    "{{range 1000000000}}x{{end}}": (0, "10000 rounds are the most"),
    "{{printf `%999999999d` 1}}": (2, "wider than 10000"),
    "{{printf `%.999999999f` 1}}": (2, "wider than 10000"),
    "{{printf `%c` 55296}}": (2, "%c cannot show"),
    "{{printf `%c` -1}}": (2, "%c cannot show"),
}


@pytest.mark.parametrize("text", USELESS)
def test_what_cannot_be_done_is_said_with_its_place(text: str) -> None:
    """While it runs: which part, and what would be right."""
    with pytest.raises(BadTemplate) as caught:
        _render(text)
    at, words = USELESS[text]
    assert (caught.value.at, words in str(caught.value)) == (at, True), str(caught.value)


def test_the_functions_are_those_that_help_names() -> None:
    """The list for people is complete."""
    known = "and config eq ge gt index join joinAndTruncate le len lt ne not or print printf println slice"
    assert " ".join(names()) == known


def test_a_template_tells_beforehand_what_it_asks_the_store() -> None:
    """So that the cluster's AS number is read only where it is shown."""
    assert Template("{{range .}}{{if true}}({{config `asnumber`}}){{end}}{{end}}").asks("config")
    assert not Template("{{range .}}{{.Name}}{{end}}").asks("config")


def test_templates_of_the_documentation_run() -> None:
    """What people copy works."""
    text = (Path(__file__).parents[3] / "docs/operate/calicoctl.md").read_text()
    templates = re.findall(r"go-template='(.*)'", text)
    assert len(templates) >= 2
    nodes = codec.load("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: a}}")
    assert Template(templates[0]).render([Listing(KINDS["Node"], nodes)]) == "a <nil>\n"
    assert _render(templates[1]) == "10.1.0.0/16\n10.2.0.0/16\n"
    for name in names():
        assert f"`{name}" in text
