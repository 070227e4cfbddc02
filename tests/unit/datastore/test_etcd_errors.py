"""What errors of etcd mean, and how they are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from calico.datastore.api import StoreError, Unavailable
from calico.datastore.etcd_errors import Fault, fault_of, plain, refusal


@pytest.mark.parametrize(
    ("status", "words", "fault"),
    [
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Fault.COMPACTED),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", Fault.FUTURE),
        ("NOT_FOUND", "etcdserver: requested lease not found", Fault.LEASE_GONE),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Fault.LOGIN),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", Fault.LOGIN),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", Fault.LOGIN),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password", Fault.DENIED),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Fault.DENIED),
        ("", "rpc error: code = PermissionDenied desc = etcdserver: permission denied", Fault.DENIED),
        ("FAILED_PRECONDITION", "etcdserver: authentication is not enabled", Fault.NO_LOGINS),
        ("UNAVAILABLE", "etcdserver: no leader", Fault.UNDONE),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", Fault.UNDONE),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", Fault.REFUSED),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", Fault.REFUSED),
        ("UNAVAILABLE", "etcdserver: leader changed", Fault.LOST),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure", Fault.LOST),
        ("DEADLINE_EXCEEDED", "", Fault.LOST),
        ("UNKNOWN", "", Fault.LOST),
        ("SOMETHING_NEW", "words of a later version", Fault.LOST),
    ],
)
def test_meaning(status: str, words: str, fault: Fault) -> None:
    """An error that is not known may have done something; only those that are known to have done nothing are repeated."""
    assert fault_of(status, words) is fault


def test_words_for_people() -> None:
    """What is told is short, and never empty."""
    refused = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    assert plain("UNAVAILABLE", refused) == "Connection refused"
    assert plain("UNAVAILABLE", "etcdserver: no leader") == "no leader"
    assert plain("DEADLINE_EXCEEDED", "Deadline Exceeded") == "no answer in time"
    assert plain("DATA_LOSS", "") == "data loss"
    assert "https" in plain("UNAVAILABLE", "Socket closed", connecting=True)
    tls = plain("UNAVAILABLE", "Handshake read failed (Socket closed)", connecting=True)
    assert "does it want http?" in tls
    assert "https" not in plain("UNAVAILABLE", "Socket closed")


def test_refusals_say_what_to_do() -> None:
    """Each refusal names who asked for what, and the next step; only an impossible request is no matter of trying later."""
    denied = refusal(Fault.DENIED, "permission denied", user="agent", what="write /a")
    assert str(denied).startswith("etcd does not let the user 'agent' write /a; grant a role")
    assert isinstance(denied, Unavailable)
    stale = refusal(Fault.LOGIN, "invalid auth token", user="agent", what="read /a")
    assert isinstance(stale, Unavailable)
    assert "agent" in str(stale)
    impossible = refusal(
        Fault.REFUSED, "etcdserver: duplicate key given in txn request", user="", what="write /a"
    )
    assert type(impossible) is StoreError
    assert str(impossible) == "etcd refused to write /a: duplicate key given in txn request"


@pytest.mark.parametrize("missing", ["grpc", "google", "google.protobuf"])
def test_missing_packages(missing: str) -> None:
    """Without the optional packages the store says what to install, while the settings can be made."""
    program = f"""
import sys
from calico.datastore.etcd_settings import EtcdSettings, parse_endpoints
from calico.datastore.api import StoreError
EtcdSettings(endpoints=parse_endpoints("http://h:1"))
assert "grpc" not in sys.modules
sys.modules[{missing!r}] = None
try:
    import calico.datastore.etcd
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert "pip install 'pycalico[etcd]'" in done.stdout
