"""What ``get`` shows and how, in this process, on a store of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.calicoctl import Run, calicoctl_in

HEAD = "---\napiVersion: projectcalico.org/v3\n"
WORLD = f"""\
{HEAD}kind: IPPool
metadata: {{name: one}}
spec: {{cidr: 10.1.0.0/16}}
{HEAD}kind: IPPool
metadata: {{name: two}}
spec: {{cidr: 10.2.0.0/16, natOutgoing: true}}
{HEAD}kind: NetworkPolicy
metadata: {{name: web, namespace: shop, labels: {{app: web}}}}
spec: {{order: 10}}
{HEAD}kind: Node
metadata: {{name: host-1}}
spec: {{bgp: {{ipv4Address: 10.0.0.1/24}}}}
{HEAD}kind: Node
metadata: {{name: host-2}}
spec: {{bgp: {{ipv4Address: 10.0.0.2/24, asNumber: 64600}}}}
{HEAD}kind: Node
metadata: {{name: host-3}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl on a store that holds ``WORLD``."""
    calicoctl = calicoctl_in(tmp_path, monkeypatch)
    calicoctl("apply", "-f", "-", stdin=WORLD)
    return calicoctl


def test_names_can_be_given_to_other_commands(run: Run) -> None:
    """KIND/NAME lines are what get and delete take."""
    lines = run("get", "pools", "-o", "name").stdout.splitlines()
    assert lines == ["ippool/one", "ippool/two"]
    assert run("get", *lines, "-o", "custom-columns=NAME").stdout == "NAME\none\ntwo\n"


def test_export_leaves_out_what_belongs_to_the_cluster(run: Run) -> None:
    """Of what is asked for by name: the rest, labels included, can be applied elsewhere."""
    text = run("get", "np", "web", "-n", "shop", "-o", "yaml", "--export").stdout
    assert yaml.safe_load(text)["metadata"] == {
        "name": "web",
        "labels": {"app": "web", "projectcalico.org/tier": "default"},
    }
    whole = yaml.safe_load(run("get", "np", "-n", "shop", "-o", "yaml", "--export").stdout)
    assert {"namespace", "uid", "resourceVersion"} <= set(whole["items"][0]["metadata"])


def test_a_node_without_an_as_number_shows_the_clusters_in_parentheses(run: Run) -> None:
    """64512, unless the default BGPConfiguration says another; a node without BGP shows none."""
    columns = ("get", "nodes", "-o", "custom-columns=NAME,ASN")
    assert run(*columns).stdout == "NAME     ASN\nhost-1   (64512)\nhost-2   64600\nhost-3\n"
    assert "(64512)" in run("get", "nodes", "-o", "wide").stdout
    configuration = f"{HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{asNumber: 65000}}\n"
    run("apply", "-f", "-", stdin=configuration)
    assert "(65000)" in run(*columns).stdout
    assert run("get", "nodes", "-o", 'go-template={{config "asnumber"}}').stdout == "65000"


def test_templates_come_from_the_command_line_or_from_a_file(run: Run, tmp_path: Path) -> None:
    """What they print is all that is printed."""
    template = "{{range .}}{{range .Items}}{{.Name}};{{end}}{{end}}"
    assert run("get", "pools", "-o", f"go-template={template}").stdout == "one;two;"
    (tmp_path / "pools.tmpl").write_text(template)
    assert run("get", "pools", "-o", "go-template-file=pools.tmpl").stdout == "one;two;"
    by_name = "go-template={{range .}}{{.Spec.CIDR}}{{end}}"
    assert run("get", "pool", "one", "-o", by_name).stdout == "10.1.0.0/16"


def test_what_is_wrong_with_a_template_is_shown_in_it(run: Run, tmp_path: Path) -> None:
    """File, line, column, and a caret below the place, in either way to give one."""
    (tmp_path / "pools.tmpl").write_text("{{range .}}\n  {{range .Items}}{{.Spec.CDIR}}{{end}}{{end}}")
    error = run("get", "pools", "-o", "go-template-file=pools.tmpl", status=2).stderr
    assert error.splitlines() == [
        "Error: pools.tmpl:2:21: IPPoolSpec has no field 'CDIR'; did you mean cidr?",
        "      {{range .Items}}{{.Spec.CDIR}}{{end}}{{end}}",
        f"    {' ' * 20}^",
    ]
    assert run("get", "pools", "-o", "go-template={{if}}", status=2).stderr.startswith(
        "Error: go-template:1:1: "
    )
    assert "no.tmpl: No such file" in run("get", "pools", "-o", "go-template-file=no.tmpl", status=2).stderr


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("yalm", "did you mean yaml"),
        ("custom-columns", "needs a value"),
        ("go-template=", "needs a value"),
        ("custom-columns=CDIR", "ippools have no column 'CDIR'"),
        ("wide=1", "there is no output format"),
    ],
)
def test_formats_that_there_are_not_are_errors_of_the_command_line(run: Run, output: str, words: str) -> None:
    """Status 2, and what there is."""
    assert words in run("get", "pools", "-o", output, status=2).stderr


def test_yml_is_yaml(run: Run) -> None:
    """As with calicoctl."""
    assert run("get", "pools", "-o", "yml").stdout == run("get", "pools", "-o", "yaml").stdout


def test_what_cannot_be_watched_is_said(run: Run, tmp_path: Path) -> None:
    """Files, and several kinds at once."""
    (tmp_path / "all.yaml").write_text(WORLD)
    assert "files cannot be watched" in run("get", "-f", "all.yaml", "-w", status=2).stderr
    assert "only one KIND" in run("get", "pool/one", "node/host-1", "-w", status=2).stderr
