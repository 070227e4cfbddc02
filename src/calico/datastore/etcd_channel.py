"""The members of an etcd cluster, and which of them is in use.

In:   ``EtcdSettings``; certificates are read and names resolved when a connection is wanted, not before.
Out:  a connected ``Member``, or Unavailable with each endpoint's reason.
Next: ``etcd_calls`` sends requests over it.

A member that fails is left for the next one, and no connection is closed because of it: others may be using it.
Each client begins with an endpoint of its own choice, so that a thousand agents do not all ask the first.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from calico.datastore.api import Unavailable
from calico.datastore.etcd_discovery import discover
from calico.datastore.etcd_errors import plain
from calico.datastore.etcd_settings import Endpoint, EtcdSettings

_READY: Final = grpc.ChannelConnectivity.READY
_FAILING: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
_LONGEST_BACKOFF: Final = 1.0
"""After how many seconds a lost endpoint is connected again, at most."""
_DIAGNOSIS: Final = 0.2
"""How many seconds it may take to learn why an endpoint cannot be connected."""


def _options(settings: EtcdSettings) -> list[tuple[str, int]]:
    dial = round(settings.dial_timeout * 1000)
    return [
        ("grpc.max_receive_message_length", -1),  # a watch that catches up is sent as much as there is
        ("grpc.max_send_message_length", -1),  # etcd has a limit of its own, and says so better
        ("grpc.min_reconnect_backoff_ms", dial),  # which is also how long connecting may take
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", round(_LONGEST_BACKOFF * 1000)),
        ("grpc.use_local_subchannel_pool", 1),  # the failures of another client in this process are not ours
        ("grpc.enable_http_proxy", 0),  # as etcd's own client
        ("grpc.service_config_disable_resolution", 1),
    ]


class Credentials:
    """The certificates of the settings, as they were when they were read."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._files = (settings.ca_cert_file, settings.key_file, settings.cert_file)
        self._stamp = self._look()
        authorities, key, certificate = (
            text.encode() or self._read(file)
            for text, file in zip((settings.ca_cert, settings.key, settings.cert), self._files, strict=True)
        )
        if authorities is None:
            system = ssl.get_default_verify_paths().cafile
            authorities = Path(system).read_bytes() if system else None
        self.channel = grpc.ssl_channel_credentials(authorities, key, certificate)

    @property
    def stale(self) -> bool:
        """Whether the files were replaced since."""
        return self._look() != self._stamp

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        def stamp(file: str) -> tuple[int, int] | None:
            try:
                status = Path(file).stat()
            except OSError:
                return None
            return status.st_mtime_ns, status.st_ino

        return tuple(stamp(file) for file in self._files)

    @staticmethod
    def _read(file: str) -> bytes | None:
        if not file:
            return None
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise Unavailable(f"the certificate {file} for etcd cannot be read: {error.strerror}") from error


class Member:
    """One endpoint of the cluster, and the connection to it."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._credentials = Credentials(settings) if endpoint.tls else None
        target, options = endpoint.target, _options(settings)
        self.channel = (
            grpc.aio.insecure_channel(target, options=options)
            if self._credentials is None
            else grpc.aio.secure_channel(target, self._credentials.channel, options=options)
        )

    @property
    def stale(self) -> bool:
        """Whether it was made with certificates that were replaced since."""
        return self._credentials is not None and self._credentials.stale

    @property
    def ready(self) -> bool:
        """Whether it is connected."""
        return self.channel.get_state() is _READY

    async def connect(self) -> str | None:
        """None when it is connected, else why it is not."""
        timeout = self._settings.dial_timeout
        try:
            async with asyncio.timeout(timeout):
                while (state := self.channel.get_state(try_to_connect=True)) is not _READY:
                    if state in _FAILING:
                        return await self._diagnose()
                    await self.channel.wait_for_state_change(state)
        except TimeoutError:
            return f"no connection within {timeout:g} s"
        except grpc.aio.UsageError:
            return "the connection was closed"
        return None

    async def _diagnose(self) -> str | None:
        """Why the connection fails: a state does not say it, a call does. This one asks for nothing."""
        try:
            await self.channel.unary_unary(
                "/etcdserverpb.KV/Range", request_serializer=bytes, response_deserializer=bytes
            )(b"", timeout=_DIAGNOSIS)
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                return plain(error.code().name, error.details() or "", connecting=True)
        return None  # it is back, for somebody answered


class Members:
    """The members of the cluster in the order in which they are tried. ``pick`` chooses the first of so many."""

    def __init__(self, settings: EtcdSettings, *, pick: Callable[[int], int] = random.randrange) -> None:
        self._settings = settings
        self._pick = pick
        self._order: list[Endpoint] = []
        self._open: dict[Endpoint, Member] = {}
        self._closed = False

    async def connect(self, failed: dict[Endpoint, str]) -> Member | None:
        """The first member that is connected or can be, of those that are not ``failed``, to which others are added.

        None if there is no other, or these are closed.
        """
        for endpoint in await self._endpoints():
            if endpoint in failed or self._closed:
                continue
            member = await self._member(endpoint)
            reason = None if member.ready else await member.connect()
            if reason is None:
                return member
            failed[endpoint] = reason
            self.leave(endpoint)
        return None

    def leave(self, endpoint: Endpoint) -> None:
        """Try ``endpoint`` last from now on, if it is tried first."""
        if self._order and self._order[0] == endpoint:
            self._order.append(self._order.pop(0))

    async def close(self) -> None:
        """End all connections, and what is under way on them; no other is made."""
        self._closed = True
        members, self._open = list(self._open.values()), {}
        for member in members:
            await member.channel.close()

    def lost(self, failed: Collection[tuple[Endpoint, str]]) -> Unavailable:
        """The error for people when no member is of use. What a discovery found is looked up again the next time."""
        if self._settings.discovery_srv:
            self._order = []
        reasons = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in failed)
        return Unavailable(f"etcd cannot be reached: {reasons}")

    async def _endpoints(self) -> list[Endpoint]:
        if not self._order:
            found = self._settings.endpoints or await discover(self._settings.discovery_srv)
            first = self._pick(len(found))
            self._order = [*found[first:], *found[:first]]
        return list(self._order)

    async def _member(self, endpoint: Endpoint) -> Member:
        """The member at ``endpoint``; with a new connection if the old is lost and would use old certificates."""
        member = self._open.get(endpoint)
        if member is not None and (member.ready or not member.stale):
            return member
        replacement = self._open[endpoint] = Member(endpoint, self._settings)
        if member is not None:
            await member.channel.close()
        return replacement
