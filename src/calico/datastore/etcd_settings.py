"""How to reach etcd: a value that command lines, environments and configuration files are turned into.

In:   what an operator says: ``EtcdSettings(endpoints=parse_endpoints("https://10.0.0.1:2379,..."), username=...,
      password=..., ca_cert_file=..., cert_file=..., key_file=..., discovery_srv=..., prefix=...)``.
Out:  the same, checked; a contradiction raises StoreError at once. No file is read and nothing is connected.
Next: ``etcd.EtcdStore(settings)``.

Names and meaning are those of Calico's own settings, ``ETCD_ENDPOINTS`` and so on. What names a certificate
by file may be given as its PEM text instead (``ca_cert``, ``cert``, ``key``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from calico.datastore.api import StoreError

DEFAULT_PORT: Final = 2379
"""Where etcd listens for clients unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member of the cluster, as its clients reach it: by name or address, or by the path of a Unix socket."""

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """The endpoint in the words of gRPC's name resolution."""
        return f"unix:{self.host}" if self.host.startswith("/") else f"dns:///{self.address}"

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"unix:{self.host}"
        return f"{'https' if self.tls else 'http'}://{self.address}"


def parse_endpoint(text: str) -> Endpoint:
    """``http://host:port``, ``https://host:port`` or ``unix:/path``; StoreError says what is wrong."""
    if (path := text.strip().removeprefix("unix:")).startswith("/"):
        return Endpoint(path)
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname, url.port
    except ValueError as error:
        raise StoreError(
            f"{text!r} is no endpoint of etcd: {error}; write https://host:{DEFAULT_PORT}"
        ) from None
    if url.scheme not in {"http", "https"} or not host or url.username or url.path.strip("/") or url.query:
        # Whoever put a password into the URL shall not find it in a log.
        shown = text.rpartition("@")[2]
        raise StoreError(
            f"{shown!r} is no endpoint of etcd; write https://host:{DEFAULT_PORT}, or http:// without TLS"
        )
    return Endpoint(host, port or DEFAULT_PORT, url.scheme == "https")


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Endpoints separated by commas, as ``ETCD_ENDPOINTS`` has them; empty text has none."""
    return tuple(parse_endpoint(part) for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """How to reach etcd. Times are in seconds.

    Either ``endpoints`` or ``discovery_srv`` must be given. TLS is used for endpoints that say https. ``prefix`` is
    put before every path on the way out and taken off on the way in, so that several clusters may share one etcd.
    """

    endpoints: tuple[Endpoint, ...] = ()
    discovery_srv: str = ""
    """The domain whose SRV records _etcd-client-ssl._tcp and _etcd-client._tcp name the endpoints."""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_cert_file: str = ""
    """Who may sign the servers' certificates; the system's authorities if none is given."""
    cert_file: str = ""
    key_file: str = ""
    ca_cert: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    prefix: str = ""
    dial_timeout: float = 2.0
    """How long one endpoint may take to be connected."""
    request_timeout: float = 4.0
    """How long one endpoint may take to answer; after that the next is asked, if the question may be repeated."""
    heartbeat: float = 2.0
    """After how long a silence a watch asks whether its endpoint still lives, and how long that may take to answer."""
    resume_timeout: float = 5.0
    """For how long a watch that was broken tries to go on before it gives up."""

    def __post_init__(self) -> None:
        if self.endpoints and self.discovery_srv:
            raise StoreError("etcd is named twice, by endpoints and by a discovery domain; use one of them")
        if not self.endpoints and not self.discovery_srv:
            raise StoreError(
                "no endpoint of etcd is named; set ETCD_ENDPOINTS, for example to https://10.0.0.1:2379"
            )
        for name in ("ca_cert", "cert", "key"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise StoreError(
                    f"the etcd setting {name} is given twice, as text and as a file; use one of them"
                )
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            raise StoreError(
                "a client certificate for etcd needs both the certificate and its key; one is missing"
            )
        if bool(self.username) != bool(self.password):
            raise StoreError("etcd needs both a user name and a password, or neither; one is missing")
        for name in ("dial_timeout", "request_timeout", "heartbeat", "resume_timeout"):
            if getattr(self, name) <= 0:
                raise StoreError(f"the etcd setting {name} is a number of seconds above zero")
