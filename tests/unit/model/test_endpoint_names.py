"""Names of workload endpoints and of their interfaces."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.model.endpoint import WorkloadEndpointSpec
from calico.model.names import BadName, EndpointName, interface_name, parse_endpoint_name

part = st.text(alphabet="ab-", min_size=1, max_size=4).filter(lambda text: "-" not in {text[0], text[-1]})


@given(part, part, part, part)
def test_names_are_read_back(node, orchestrator, workload, endpoint):
    """Every name, and every prefix of one, is read as the parts that it was made of."""
    name = EndpointName(node, orchestrator, workload, endpoint)

    assert parse_endpoint_name(name.text()) == name
    assert name.matches(name.text())
    assert name.text().startswith(name._replace(endpoint="").prefix())
    assert parse_endpoint_name(name._replace(endpoint="").prefix()) == name._replace(endpoint="")


@given(st.lists(part, min_size=8, max_size=8))
def test_names_are_distinct(parts):
    """Different parts never give the same name."""
    first, second = EndpointName(*parts[:4]), EndpointName(*parts[4:])

    assert (first.text() == second.text()) is (first == second)


@pytest.mark.parametrize("text", ["", "-", "-a", "a---b", "a--", "--a", "a-b-c-d-e", "a-b-c-d-e-", "a--b--"])
def test_unreadable_names(text):
    """What no parts give is no name."""
    with pytest.raises(BadName, match="is no name of a workload endpoint"):
        parse_endpoint_name(text)


def test_libnetwork_has_no_workload():
    """Endpoints of libnetwork carry its name where others carry the workload's."""
    spec = WorkloadEndpointSpec(node="a", orchestrator="libnetwork", workload="ignored", endpoint="e")

    assert EndpointName.of(spec).text() == "a-libnetwork-libnetwork-e"


def test_a_bad_name_says_which_field():
    """What is missing is named as in the spec of the endpoint, and the error survives pickling."""
    with pytest.raises(BadName, match="containerID is missing") as caught:
        EndpointName("n", "cni", "", "e").text()

    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.field, str(again)) == ("containerID", str(caught.value))


def test_interface_names():
    """A pod's interface is named by a hash of namespace and pod, within the kernel's length, as on every node."""
    assert interface_name("default", "workload-endpoint-status-tests-0-idx3") == "cali22bf70d285d"
    assert interface_name("a", "b.c") == interface_name("a.b", "c")
    assert len(interface_name("a", "b", prefix="a-very-long-prefix")) == 15
