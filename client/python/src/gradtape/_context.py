"""The process's session, and each thread's place in it (`tf.connect`)."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from gradtape import _channel, _server, _wire
from gradtape._session import Session

if TYPE_CHECKING:
    from types import CodeType

    from gradtape._graph import Graph
    from gradtape.backprop import GradientTape

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class CreationError(BaseException):
    """Something that lasts was about to be made in the body of a function.

    Nobody but `tf.function` may catch it: it then runs the body as it is, this once.
    """


def creating(what: str) -> None:
    """Raises if the calling thread shows the body of a function.

    Args:
        what: What is about to be made, as in "the creation of variables".
    """
    if scope().graph is not None:
        raise CreationError(what)


class Scope:
    """A thread's place in a session. A tape sees the commands of the scope that started it."""

    __slots__ = ("_code", "_sites", "events", "graph", "number", "session", "tapes")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.number = session.new_scope()
        self.tapes: list[GradientTape] = []
        # The function whose body this thread shows, if it does.
        self.graph: Graph | None = None
        # Counts starts and stops of tapes, to tell which of two tapes saw more.
        self.events = 0
        self._sites: dict[int, dict[int, _wire.Blanks] | None] = {}
        # Keeps the code objects alive whose addresses are keys of `_sites`.
        self._code: list[CodeType] = []

    def site(self) -> _wire.Blanks:
        """Returns the blanks for commands of the place that called into this package."""
        # Who calls this function is called from within the package, too.
        try:
            frame = sys._getframe(3)
        except ValueError:
            return self._blanks("")
        sites = self._sites
        while True:
            code = frame.f_code
            try:
                lines = sites[id(code)]
            except KeyError:
                lines = self._add_code(code)
            if lines is not None:
                try:
                    return lines[frame.f_lasti]
                except KeyError:
                    name = os.path.basename(code.co_filename)
                    tag = f"{name}:{frame.f_lineno}"
                    site = lines[frame.f_lasti] = self._blanks(tag)
                    return site
            if frame.f_back is None:
                return self._blanks("")
            frame = frame.f_back

    def tail(self) -> bytes:
        """Returns the bytes that end a command of the calling line."""
        return self.site().tail

    def _blanks(self, tag: str) -> _wire.Blanks:
        return _wire.Blanks(self.session.handle_width, _wire.suffix(tag, self.number))

    def _add_code(self, code: CodeType) -> dict[int, _wire.Blanks] | None:
        if len(self._code) > 10_000:  # Programs that compile code without end.
            self._sites.clear()
            self._code.clear()
        self._code.append(code)
        # A context manager of ours is entered by way of contextlib.
        ours = code.co_filename == contextlib.__file__ or os.path.abspath(
            code.co_filename
        ).startswith(_PACKAGE)
        lines: dict[int, _wire.Blanks] | None = None if ours else {}
        self._sites[id(code)] = lines
        return lines


class _Local(threading.local):
    scope: Scope | None = None


_local = _Local()
_lock = threading.Lock()
_session: Session | None = None
_own_server: _server.LocalServer | None = None


def scope() -> Scope:
    """Returns the calling thread's scope in the process's session, which it opens if need be."""
    found = _local.scope
    if found is not None and found.session is _session:
        return found
    found = _local.scope = Scope(session())
    return found


def session() -> Session:
    """Returns the process's session, opened at GRADTAPE_ADDRESS or at a server of our own."""
    global _session, _own_server
    with _lock:
        if _session is None:
            address = os.environ.get("GRADTAPE_ADDRESS")
            if not address:
                _own_server = _own_server or _server.LocalServer()
                address = _own_server.address
            _session = Session(_channel.target(address))
        return _session


def connect(
    address: str,
    token: str | None = None,
    tls: bool | None = None,
    ca: _channel.Pem | None = None,
    identity: tuple[_channel.Pem, _channel.Pem] | None = None,
) -> None:
    """Opens a session at a server, for all threads of this process.

    Tensors and variables of an earlier session cannot be used with the new one.

    Args:
        address: Host and port, as in "localhost:50051", or an address that starts with https://.
        token: Says who we are. Default: the variable GRADTAPE_TOKEN, if the connection is
            encrypted or does not leave this machine.
        tls: Whether to encrypt. Default: if the address, `ca` or `identity` says so.
        ca: File, or PEM as bytes, of the certificates to trust. Default: the file that the
            variable GRADTAPE_CA names, or else those that gRPC trusts.
        identity: Files, or PEM as bytes, of a certificate that says who we are, and of its key.
    """
    global _session
    opened = Session(_channel.target(address, token, tls, ca, identity))
    disconnect()
    with _lock:
        _session = opened


def disconnect() -> None:
    """Ends the session, and the server if it is our own. The next operation opens a new one."""
    global _session, _own_server
    with _lock:
        closing, _session = _session, None
        server, _own_server = _own_server, None
    if closing is not None:
        failures = closing.close()
        if failures:
            print(
                f"gradtape: {len(failures)} operations failed and nothing read their results; "
                f"the first: {failures[0].message} at {failures[0].tag}",
                file=sys.stderr,
            )
    if server is not None:
        server.stop()


_LEVELS = {"applied": 0, "durable": 2, "portable": 3}


def synchronize(level: str = "applied", timeout: float | None = None) -> None:
    """Waits until everything that this thread asked for is done; raises what went wrong.

    Args:
        level: What it shall survive. "applied": nothing, it is in the server's memory. "durable":
            the death of the server, its machine and this program; takes a server with a session
            store. "portable": the loss of the machine too; takes a server with a portable store.
            If that store fails, UnavailableError is raised, and everything stays durable.
        timeout: How many seconds to wait for the level, at most 600. Default: 30.
    """
    number = _LEVELS.get(level)
    if number is None:
        raise ValueError(f"level is one of {', '.join(_LEVELS)}, not {level!r}")
    here = scope()
    milliseconds = 0 if timeout is None else max(1, round(min(timeout, 600.0) * 1000))
    here.session.sync(here.number, here.tail(), number, milliseconds)


def clear_errors() -> None:
    """Forgets failures that this thread was not told of yet."""
    here = scope()
    here.session.clear_errors(here.number)


def _forget_after_fork() -> None:
    # gRPC's threads do not survive a fork; the child opens a session of its own.
    global _session, _own_server
    _session = _own_server = None


atexit.register(disconnect)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
