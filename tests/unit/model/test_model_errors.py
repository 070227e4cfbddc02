"""How problems look."""

import pickle

from calico.model.address import AddressError
from calico.model.errors import InvalidResources, ModelError, Problem, SelectorError, dotted


def test_a_whole_problem():
    """A problem says where, whose, which field, what is wrong, what would be right, and points at it."""
    problem = Problem(
        source="policy.yaml",
        line=12,
        column=9,
        kind="NetworkPolicy",
        name="shop/web",
        path=("spec", "ingress", 2, "source", "nets", 0),
        message="what is wrong",
        remedy="what would be right",
        excerpt="  nets: [x]",
    )

    assert str(problem) == (
        "policy.yaml:12:9: NetworkPolicy/shop/web: spec.ingress[2].source.nets[0]: "
        "what is wrong; what would be right\n"
        "      nets: [x]\n"
        "            ^"
    )


def test_a_problem_of_which_little_is_known():
    """What is not known leaves no trace in the sentence."""
    assert str(Problem(message="it is wrong")) == "it is wrong"
    assert str(Problem(message="it is wrong", source="a.yaml", kind="Tier")) == "a.yaml: Tier: it is wrong"


def test_paths():
    """Names that are no plain words are quoted in paths."""
    assert dotted(("metadata", "labels", "a.b/c-d", 3)) == 'metadata.labels["a.b/c-d"][3]'
    assert dotted(()) == ""


def test_the_family():
    """All errors of the model are ModelError, and ValueError; many problems are one error."""
    error = InvalidResources((Problem(message="one"), Problem(message="two")))

    assert str(error) == "one\ntwo"
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    assert all(issubclass(kind, ModelError) for kind in (InvalidResources, SelectorError, AddressError))
    assert issubclass(ModelError, ValueError)
