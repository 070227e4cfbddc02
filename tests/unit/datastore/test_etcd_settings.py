"""What may be said about how to reach etcd, and what is told to who says it wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from calico.datastore.api import StoreError
from calico.datastore.etcd_settings import Endpoint, EtcdSettings, parse_endpoint, parse_endpoints

HERE = (Endpoint("10.0.0.1"),)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://10.0.0.1:2379", Endpoint("10.0.0.1", 2379)),
        ("https://etcd-1.example.com:4001/", Endpoint("etcd-1.example.com", 4001, tls=True)),
        ("https://10.0.0.1", Endpoint("10.0.0.1", 2379, tls=True)),
        ("http://[fd00::1]:2379", Endpoint("fd00::1", 2379)),
        (" http://localhost:1 ", Endpoint("localhost", 1)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    """An endpoint is a URL of a scheme, a host and a port; without a port it is etcd's own."""
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1:2379", "etcd", "ftp://10.0.0.1", "http://", "http://h:port", "http://h:99999", "http://h/path", "http://h?x=1",
     "http://[::1"],
)  # fmt: skip
def test_what_is_no_endpoint(text: str) -> None:
    """What is no endpoint is refused, with what would be one."""
    with pytest.raises(StoreError, match="https://host:2379"):
        parse_endpoint(text)


def test_password_in_an_endpoint_is_not_repeated() -> None:
    """An endpoint with a password in it is refused without repeating the password."""
    with pytest.raises(StoreError) as error:
        parse_endpoint("http://root:secret@10.0.0.1:2379")
    assert "secret" not in str(error.value)


def test_several_endpoints() -> None:
    """Endpoints are separated by commas; empty parts are passed over."""
    assert parse_endpoints("http://a:1, https://b:2,,") == (Endpoint("a", 1), Endpoint("b", 2, tls=True))
    assert parse_endpoints("") == ()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "ETCD_ENDPOINTS"),
        ({"endpoints": HERE, "discovery_srv": "example.com"}, "named twice"),
        ({"endpoints": HERE, "cert_file": "c"}, "both the certificate and its key"),
        ({"endpoints": HERE, "key": "k"}, "both the certificate and its key"),
        ({"endpoints": HERE, "ca_cert": "c", "ca_cert_file": "c"}, "ca_cert is given twice"),
        ({"endpoints": HERE, "username": "u"}, "both a user name and a password"),
        ({"endpoints": HERE, "password": "p"}, "both a user name and a password"),
        ({"endpoints": HERE, "request_timeout": 0.0}, "request_timeout is a number of seconds above zero"),
    ],
)
def test_contradictions(given: dict[str, Any], sentence: str) -> None:
    """Settings that contradict each other, or lack a half, are refused in words."""
    with pytest.raises(StoreError, match=sentence):
        EtcdSettings(**given)


def test_secrets_are_not_shown() -> None:
    """Neither the password nor the private key is in what Python shows of the settings."""
    shown = repr(EtcdSettings(endpoints=HERE, username="u", password="hidden-1", cert="c", key="hidden-2"))
    assert "hidden" not in shown


def test_an_endpoint_may_be_a_unix_socket() -> None:
    """By its path, with or without the scheme; colons in the path mean nothing."""
    endpoint = parse_endpoint("unix:/run/etcd1:2379")

    assert endpoint == Endpoint("/run/etcd1:2379")
    assert (str(endpoint), endpoint.target) == ("unix:/run/etcd1:2379", "unix:/run/etcd1:2379")
    assert parse_endpoint(str(endpoint)) == endpoint
    assert Endpoint("::1").target == "dns:///[::1]:2379"
