"""What an error of etcd means for whoever asked.

In:   the status and the words of a failed call, or of a cancelled watch.
Out:  a ``Fault``: ask again, ask elsewhere, give up; and a sentence for people.
Next: ``etcd_calls`` acts on it.

etcd tells most of its errors apart by their words alone; they are the same in all versions 3.4 to 3.6.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from calico.datastore.api import Denied, StoreError, Unavailable


class Fault(enum.Enum):
    """What to do after an error."""

    LOST = "lost"
    """The endpoint does not answer as it should. A write may have happened; questions go to another endpoint."""
    UNDONE = "undone"
    """The endpoint cannot, and did nothing; another may."""
    LOGIN = "login"
    """The login is not valid any more, and nothing was done; log in again."""
    COMPACTED = "compacted"
    FUTURE = "future"
    LEASE_GONE = "lease gone"
    NO_LOGINS = "no logins"
    """The cluster knows no users: it needs no login."""
    DENIED = "denied"
    """The user may not do this, or is not who it says; nothing was done and no endpoint will think otherwise."""
    REFUSED = "refused"
    """The request itself is impossible; nothing was done and no endpoint will think otherwise."""


_BY_WORDS: Final = {
    "required revision has been compacted": Fault.COMPACTED,
    "required revision is a future revision": Fault.FUTURE,
    "requested lease not found": Fault.LEASE_GONE,
    "invalid auth token": Fault.LOGIN,
    "revision of auth store is old": Fault.LOGIN,
    "user name is empty": Fault.LOGIN,
    "authentication is not enabled": Fault.NO_LOGINS,
    "authentication failed": Fault.DENIED,
    "permission denied": Fault.DENIED,
    "no leader": Fault.UNDONE,
    "too many requests": Fault.UNDONE,
    "database space exceeded": Fault.REFUSED,
}
_BY_STATUS: Final = {
    "PERMISSION_DENIED": Fault.DENIED,
    "UNAUTHENTICATED": Fault.LOGIN,
    "INVALID_ARGUMENT": Fault.REFUSED,
    "OUT_OF_RANGE": Fault.REFUSED,
    "UNIMPLEMENTED": Fault.UNDONE,
}
_NOISE: Final = re.compile(
    r"failed to connect to all addresses; last error: |etcdserver: |(UNAVAILABLE|UNKNOWN): |ipv[46]:\S+:\d+: "
)
"""What says nothing, or what the sentence around it says already."""

_HINTS: Final = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not by an authority that we know; check ETCD_CA_CERT_FILE",
    "TSI_DATA_CORRUPTED": "it broke off the TLS connection; does it know the authority of ETCD_CERT_FILE, and is that still valid?",
    "security handshaker": "the certificates that are configured cannot be used; check that they are PEM and fit",
    "Handshake read failed": "it broke off the TLS connection; does it want http?",
    "Socket closed": "it closed the connection; does it want https?",
    "Failed parsing HTTP/2": "this is no server of etcd v3, or it wants https",
}
"""What it means most often when an endpoint cannot be connected."""


def fault_of(status: str, words: str) -> Fault:
    """What the error with gRPC's ``status`` and etcd's ``words`` means; what is not known counts as LOST."""
    for known, fault in _BY_WORDS.items():
        if known in words:
            return fault
    return _BY_STATUS.get(status, Fault.LOST)


def plain(status: str, words: str, *, connecting: bool = False) -> str:
    """The error in few words, with what may be behind it if it came while ``connecting``."""
    if status == "DEADLINE_EXCEEDED":
        return "no answer in time"
    if status == "UNIMPLEMENTED":
        return "this is no server of etcd v3"
    bare = _NOISE.sub("", words) or status.lower().replace("_", " ")
    hints = [hint for sign, hint in _HINTS.items() if connecting and sign in words]
    return f"{hints[0]} ({bare})" if hints else bare


def refusal(fault: Fault, words: str, *, user: str, what: str) -> StoreError:
    """What to raise for a LOGIN, DENIED or REFUSED that stays: ``user`` asked to do ``what``."""
    if "space exceeded" in words:
        return Unavailable(
            "etcd is full and takes no writes; compact and defragment it, or raise its --quota-backend-bytes,"
            " then disarm its NOSPACE alarm (etcdctl alarm disarm)"
        )
    if fault is Fault.REFUSED:
        hint = "; its --max-request-bytes is the limit" if "too large" in words else ""
        return StoreError(f"etcd refused to {what}: {plain('', words)}{hint}")
    if not user:
        refused = Denied if fault is Fault.DENIED else Unavailable
        return refused(
            f"etcd does not let a client without a login {what}; set ETCD_USERNAME and ETCD_PASSWORD,"
            " or grant a role to the user that its certificate names"
        )
    if fault is Fault.LOGIN:
        return Unavailable(
            f"etcd takes no login of the user {user!r} as valid ({plain('', words)}); its servers' logs say more"
        )
    if "authentication failed" in words:
        return Unavailable(
            f"etcd does not accept the user {user!r} with this password; check ETCD_USERNAME and ETCD_PASSWORD"
        )
    return Denied(
        f"etcd does not let the user {user!r} {what}; grant a role that may, if it should"
        " (calicoctl datastore roles)"
    )
