"""How a session reaches its server: address, encryption, and who it says it is."""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from gradtape import errors

Pem = bytes | str | os.PathLike[str]

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Downloads come in frames, each of which costs both sides a call of the operating system.
    ("grpc.http2.max_frame_size", 64 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The session attaches again by itself, with its own pauses.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 10),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class Target(NamedTuple):
    """A server and what a connection to it needs."""

    address: str
    token: str | None = None
    # Whether to encrypt, and the PEM of what is trusted; None trusts what gRPC trusts.
    tls: bool = False
    ca: bytes | None = None
    # The PEM of a certificate and its key.
    identity: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        """Returns the address: the rest is nobody's business."""
        return f"Target({self.address!r}, tls={self.tls})"

    def channel(self) -> grpc.Channel:
        """Opens a channel, which connects when it is used."""
        if self.tls:
            certificate, key = self.identity or (None, None)
            credentials = grpc.ssl_channel_credentials(self.ca, key, certificate)
            channel = grpc.secure_channel(self.address, credentials, options=_OPTIONS)
        else:
            channel = grpc.insecure_channel(self.address, options=_OPTIONS)
        if self.token is None:
            return channel
        return grpc.intercept_channel(channel, _Bearer(self.token))


def target(
    address: str,
    token: str | None = None,
    tls: bool | None = None,
    ca: Pem | None = None,
    identity: tuple[Pem, Pem] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Target:
    """Returns what `tf.connect` was asked for, completed from the environment."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    elif scheme not in ("grpc", "http", "grpcs", "https"):
        raise errors.InvalidArgumentError(f"{address!r}: the scheme is http or https")
    rest = rest.rstrip("/")
    wants = scheme in ("grpcs", "https") or ca is not None or identity is not None
    if tls is None:
        tls = wants and scheme not in ("grpc", "http")
    if (wants and not tls) or (tls and scheme in ("grpc", "http")):
        raise errors.InvalidArgumentError(
            f"{address!r} asks for encryption and for none: use https:// or leave the scheme out"
        )
    if tls and ca is None:
        ca = environment.get("GRADTAPE_CA") or None
    # What a program did not say itself must not leave this machine readable.
    if token is None and (tls or _is_local(rest)):
        token = environment.get("GRADTAPE_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable()):
        raise errors.InvalidArgumentError("the token has characters that no token has")
    pair = None if identity is None else (_pem(identity[0]), _pem(identity[1]))
    return Target(rest, token, tls, None if ca is None else _pem(ca), pair)


def attempts(count: int) -> Iterator[float]:
    """Pauses between attempts: doubling, bounded, and a little random so that clients spread."""
    pause = 0.01
    for _ in range(count):
        yield pause * random.uniform(0.75, 1.25)
        pause = min(2 * pause, 2.0)


def attempts_within(seconds: float) -> Iterator[float]:
    """Pauses between attempts, as `attempts` has them, until the seconds are over."""
    end = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < end, attempts(sys.maxsize))


def _pem(source: Pem) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the token to every call; an interceptor, because call credentials need TLS."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._header]
        return continuation(_Details(details, metadata), request)

    intercept_unary_unary = _call
    intercept_unary_stream = _call
    intercept_stream_unary = _call
    intercept_stream_stream = _call


class _Details(grpc.ClientCallDetails):
    """The details of a call, with other metadata."""

    def __init__(self, details: Any, metadata: list[tuple[str, str]]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


# Ways in which a stream ends when the connection is lost rather than refused.
LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}

_BY_STATUS = {status: status.value[0] for status in grpc.StatusCode}


def from_status(error: grpc.RpcError, context: str = "") -> errors.OpError:
    """Makes the exception for a status that ended a call."""
    cls = errors.exception_type(_BY_STATUS[error.code()])
    return cls(f"{context}{error.details()}")
