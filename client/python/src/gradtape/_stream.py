"""A session's stream: commands go out in batches, replies come in, and nothing is done twice.

Appending a command is a `list.append` and waits for nobody. Three parties share the rest:

- the program's threads append entries (`append`, `ask`) and wait only for replies that they ask
  for;
- the writer (the request iterator that gRPC consumes) numbers the commands, packs them into batches
  within the server's credit, and keeps every batch as long as it may have to be sent again;
- the reader takes replies, wakes who waits, and attaches again when the connection is lost. Then
  the writer of the new connection sends again whatever was not seen applied, or what a server that
  died has lost; the server answers what it knows from its memory.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from gradtape import _wire, errors
from gradtape._call import Batch, Call
from gradtape._channel import LOST, attempts, from_status
from gradtape._notices import report
from gradtape._proto import (
    command_pb2,
    function_pb2,
    session_service_pb2,
    tape_service_pb2,
    tape_service_pb2_grpc,
)
from gradtape._signature import MISPREDICTED, forget_patterns
from gradtape._window import Window

if TYPE_CHECKING:
    from gradtape._proto.error_pb2 import Error

_log = logging.getLogger("gradtape")

# A batch leaves when it has this many commands or bytes: more gain nothing, fewer cost messages.
_BATCH_COMMANDS = 256
_BATCH_BYTES = 256 << 10
# Commands that wait for company leave after this many seconds, so that their errors surface.
_IDLE_SECONDS = 0.003
# A program that runs ahead of the writer by this many commands or bytes waits.
_MOST_PENDING_COMMANDS = 16_384
_MOST_PENDING_BYTES = 16 << 20
# Tries to attach again, with pauses from 10 ms to 2 s: about 20 seconds in all.
_ATTACH_ATTEMPTS = 18
# Handles that one Release may have.
_MOST_RELEASED = 65_536
# So many dead tensors are released between the commands of a program that runs ahead: releases that
# queued up behind all its commands would let the server keep the tensors of dozens of steps.
_RELEASED_AT_ONCE = 128
# Failures remembered, so that a poisoned value can tell its cause.
_MOST_FAILURES = 4_096

_SOME, _FLUSH, _STOP = range(3)

# Handles of one session have varints of one width. This is the smallest with five bytes.
_FIRST_HANDLE = 1 << 28
_HANDLES_AT_ONCE = 1_024


class Stream:
    """What goes to a session and comes from it, over as many connections as it takes.

    Args:
        channel: A channel to the server.
        address: Its address, for messages.
        credentials: The right to use the session.
        limits: What the server takes.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        address: str,
        credentials: session_service_pb2.SessionCredentials,
        limits: session_service_pb2.ServerLimits,
    ) -> None:
        self._channel = channel
        self.address = address
        self._credentials = credentials
        self._batch_commands = min(limits.max_batch_commands or 1_024, 1_024)
        self._credit_commands = limits.max_unapplied_commands or 4_096
        self._credit_bytes = limits.max_unapplied_bytes or 16 << 20
        self.handle_width = 0
        # Of commands that no line of the program asks for.
        self.untagged = _wire.Blanks(0, b"")
        self.dead: list[bytes] = []
        self._pending: list[bytes] = []
        self._free: list[bytes] = []
        self._fresh: Iterator[int] = iter(())
        self._large_bytes = 0
        self._armed = False
        self._closed = False
        self._wake: SimpleQueue[int] = SimpleQueue()
        # Guards everything below.
        self._state = threading.Condition()
        self._window = Window()
        self._calls: dict[int, Call] = {}
        self._fatal: Exception | None = None
        self._unreported: dict[int, list[Error]] = {}
        self._failures: dict[int, Error] = {}
        self._cancelled = 0
        self._broken_promises: list[str] = []

    def _open(self) -> None:
        """Attaches for the first time, and waits for that."""
        ready = threading.Event()
        # Daemons: a program may end without closing the session; `close` runs at exit.
        name = "gradtape-reader"
        threading.Thread(target=self._read, args=(ready,), name=name, daemon=True).start()
        ready.wait()
        self._raise_if_closed()

    def _end(self, reason: Exception) -> list[Error]:
        """Ends the stream for good and returns the failures nobody was told of."""
        with self._state:
            self._closed = True
            self._wake.put(_STOP)
            self._fatal = self._fatal or reason
            self._state.notify_all()
            return [error for some in self._unreported.values() for error in some]

    # === What the program's threads call ===

    def new_handle(self) -> bytes:
        """Returns an unused handle, encoded."""
        try:
            return self._free.pop()
        except IndexError:
            return self._more_handles()

    def append(self, entry: bytes) -> None:
        """Adds a command to what will be sent soon."""
        pending = self._pending
        pending.append(entry)
        if len(self.dead) >= _RELEASED_AT_ONCE:
            self._release_dead(self._wake)
        if not self._armed:
            self._armed = True
            self._wake.put(_SOME)
        elif not len(pending) & (_BATCH_COMMANDS - 1):
            self._flush_full()

    def append_from_finalizer(self, entry: bytes) -> None:
        """Adds a command without ever waiting: finalizers run in any thread, the writer's too."""
        self._pending.append(entry)
        if not self._armed:
            self._armed = True
            self._wake.put(_SOME)

    def append_large(self, entry: bytes) -> None:
        """Adds a command with data, and waits while too much of that kind is on its way."""
        self._large_bytes += len(entry)
        self.append(entry)
        if self._large_bytes >= _BATCH_BYTES:
            self._wake.put(_FLUSH)
            with self._cancelling(), self._state:
                while (
                    self._large_bytes + self._window.size > _MOST_PENDING_BYTES
                    and self._fatal is None
                ):
                    self._state.wait(1.0)

    def ask(self, call: Call) -> Call:
        """Sends a call at once; `wait` for its reply."""
        self.append(call)
        self._wake.put(_FLUSH)
        return call

    def cancel(self) -> None:
        """Cancels what is on its way: what computes fails, and nobody is told unless he asks."""
        with self._state:
            self._cancelled = self._window.next_sequence - 1 + len(self._pending)
        request = tape_service_pb2.CancelCommandsRequest(
            credentials=self._credentials, sequence=self._cancelled
        )
        self._retry(lambda stub: stub.CancelCommands(request))

    @contextlib.contextmanager
    def _cancelling(self) -> Iterator[None]:
        """Makes Ctrl-C during a wait stop what is waited for."""
        try:
            yield
        except KeyboardInterrupt:
            self.cancel()
            raise

    def _raise_if_closed(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _more_handles(self) -> bytes:
        with self._state:
            first, *rest = map(_wire.varint, itertools.islice(self._fresh, _HANDLES_AT_ONCE))
        self._free.extend(reversed(rest))
        return first

    def _flush_full(self) -> None:
        self._wake.put(_FLUSH)
        # Hands the interpreter over; the writer would otherwise wait five milliseconds for it.
        time.sleep(0)
        if len(self._pending) >= _MOST_PENDING_COMMANDS:
            with self._cancelling(), self._state:
                while len(self._pending) >= _MOST_PENDING_COMMANDS and self._fatal is None:
                    self._state.wait(1.0)
            self._raise_if_closed()

    def _retry(
        self,
        send: Callable[[tape_service_pb2_grpc.TapeServiceStub], Any],
        pauses: Iterator[float] | None = None,
    ) -> Any:
        """Makes a call that may be made twice, until it gets through."""
        for pause in pauses or attempts(_ATTACH_ATTEMPTS):
            try:
                return send(tape_service_pb2_grpc.TapeServiceStub(self._channel))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise from_status(error) from None
                time.sleep(pause)
        raise errors.UnavailableError(f"lost the connection to {self.address}")

    # === Attaching ===

    def _attach(self) -> tuple[int, Any]:
        """Opens a stream; returns the next sequence number there, and the replies."""
        wake: SimpleQueue[int] = SimpleQueue()
        with self._state:
            self._wake.put(_STOP)
            self._wake = wake
        welcomed = threading.Event()
        stream = self._channel.stream_stream(
            "/gradtape.v1.TapeService/Stream",
            request_serializer=None,
            response_deserializer=tape_service_pb2.StreamResponse.FromString,
        )
        replies = stream(self._requests(wake, welcomed))
        try:
            welcome = next(replies).welcome
        except StopIteration:
            raise errors.UnavailableError("the server ended the stream") from None
        except grpc.RpcError:
            wake.put(_STOP)
            welcomed.set()
            raise
        with self._state:
            self._window.attach(welcome)
            if not self.handle_width:
                start = max(welcome.handle_base, _FIRST_HANDLE)
                self.handle_width = len(_wire.varint(start))
                self.untagged = _wire.Blanks(self.handle_width, b"")
                end = min(welcome.handle_base + (1 << 32), 1 << (7 * self.handle_width))
                self._fresh = iter(range(start, end))
        welcomed.set()
        return welcome.next_sequence, replies

    def _read(self, ready: threading.Event) -> None:
        """Body of the reader's thread."""
        pauses, seen = attempts(_ATTACH_ATTEMPTS), 0
        while not self._closed:
            try:
                next_sequence, replies = self._attach()
                ready.set()
                if next_sequence > seen:
                    # The server got something of what the last connection sent: go on.
                    pauses, seen = attempts(_ATTACH_ATTEMPTS), next_sequence
                for response in replies:
                    pauses = attempts(_ATTACH_ATTEMPTS)
                    if response.HasField("progress"):
                        self._take_progress(response.progress)
                    elif response.HasField("notice"):
                        report(response.notice)
                    else:
                        self._take_reply(response.batch)
                raise errors.UnavailableError("the server ended the stream")
            except Exception as error:
                if self._closed:
                    break
                lost = isinstance(error, errors.UnavailableError) or (
                    isinstance(error, grpc.RpcError) and error.code() in LOST
                )
                pause = next(pauses, None)
                if not lost or pause is None:
                    self._fail(from_status(error) if isinstance(error, grpc.RpcError) else error)
                    break
                _log.debug("lost the connection, attaching again in %.3f s: %s", pause, error)
                time.sleep(pause)
        ready.set()

    def _fail(self, error: Exception) -> None:
        with self._state:
            self._fatal = error
            calls, self._calls = list(self._calls.values()), {}
            calls += [entry for entry in self._pending if type(entry) is Call]
            self._state.notify_all()
        for call in calls:
            if call.on_reply is None:
                call.finish(None, error)

    # === The writer ===

    def _requests(self, wake: SimpleQueue[int], welcomed: threading.Event) -> Iterator[bytes]:
        hello = tape_service_pb2.Hello(credentials=self._credentials, notices=True)
        yield tape_service_pb2.StreamRequest(hello=hello).SerializeToString()
        welcomed.wait()
        if self._wake is not wake:
            return
        with self._state:
            resend = list(self._window.resend())
        for batch in resend:
            with self._state:
                if not self._has_credit(wake, batch.count, len(batch.data)):
                    return
                self._window.sending(batch)
            yield _wire.batch(batch.first, self._window.standing, batch.data)
        self._armed = True
        token = _FLUSH
        while token != _STOP:
            if token == _SOME:
                with contextlib.suppress(Empty):
                    token = wake.get(timeout=_IDLE_SECONDS)
                    continue
            self._armed = False
            self._release_dead(wake)
            while self._pending:
                fresh = self._next_batch(wake)
                if fresh is None:
                    return
                yield _wire.batch(fresh.first, self._window.standing, fresh.data)
            token = wake.get()

    def _release_dead(self, wake: SimpleQueue[int]) -> None:
        """Turns the handles of dead tensors into a command; then they can be used again."""
        with self._state:
            # A connection that is being replaced must not free what its successor frees.
            if self._wake is not wake:
                return
            # Other threads may append meanwhile: only the first `count` are looked at.
            handles = self.dead[:_MOST_RELEASED]
            del self.dead[: len(handles)]
        if handles:
            self._pending.append(_wire.entry(_wire.RELEASE, _wire.handles_field(1, handles), b""))
            self._free.extend(handles)

    def _has_credit(self, wake: SimpleQueue[int], commands: int, size: int) -> bool:
        """Waits for the server's credit; False if this connection is being replaced."""
        window = self._window
        # What is larger than the whole credit goes alone.
        while window.commands and (
            window.commands + commands > self._credit_commands
            or window.size + size > self._credit_bytes
        ):
            if self._wake is not wake or self._fatal is not None:
                return False
            self._state.wait(1.0)
        # A connection that is being replaced must not number commands any more.
        return self._wake is wake and self._fatal is None

    def _next_batch(self, wake: SimpleQueue[int]) -> Batch | None:
        """Numbers the next commands, as many as the server has credit for."""
        with self._state:
            if not self._has_credit(wake, 1, 1):
                return None
            pending = self._pending
            room = self._credit_commands - self._window.commands
            entries = pending[: min(self._batch_commands, room)]
            size = 0
            for count, entry in enumerate(entries):
                size += len(entry)
                if size > _BATCH_BYTES and count:
                    size -= len(entry)
                    del entries[count:]
                    break
            if not self._has_credit(wake, len(entries), size):
                return None
            del pending[: len(entries)]
            for number, entry in enumerate(entries, self._window.next_sequence):
                if type(entry) is Call:
                    self._calls[number] = entry
                    entry.sequence = number
            batch = self._window.add(entries)
            self._large_bytes = max(0, self._large_bytes - len(batch.data))
            self._state.notify_all()
            return batch

    # === The reader ===

    def _take_reply(self, batch: command_pb2.BatchReply) -> None:
        finished: list[tuple[Call, command_pb2.Reply]] = []
        with self._state:
            for reply in batch.replies:
                sequence = reply.sequence
                if sequence <= self._window.applied:
                    # Executed again by a server that went back: only what differs is news.
                    if reply.HasField("error"):
                        self._take_error(reply.error, None)
                    continue
                call = self._calls.pop(sequence, None)
                if reply.HasField("error"):
                    self._take_error(reply.error, call)
                for warning in reply.warnings:
                    _log.warning("%s", warning)
                if call is None:
                    if reply.HasField("gradient"):
                        # Unasked for: other gradients than those that were expected are there.
                        forget_patterns()
                        self._broken_promises.append(MISPREDICTED)
                    continue
                if call.on_reply is None:
                    finished.append((call, reply))
                elif promise := call.on_reply(reply):
                    self._broken_promises.append(promise)
            self._window.take(batch)
            self._state.notify_all()
        for call, reply in finished:
            call.finish(reply)

    def _take_progress(self, progress: function_pb2.LoopProgress) -> None:
        with self._state:
            call = self._calls.get(progress.sequence)
        if call is not None and call.on_progress is not None:
            call.on_progress(progress.report)

    def _take_error(self, error: Error, call: Call | None) -> None:
        if error.sequence in self._failures:
            return
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.pop(next(iter(self._failures)))
        self._failures[error.sequence] = error
        if call is not None and call.on_reply is None:
            return  # Who waits for the reply raises it.
        root = self._failures.get(error.root_sequence, error)
        if root.reason == "CANCELLED" and root.sequence <= self._cancelled:
            return  # The program wished it.
        entry = self._window.entry(error.sequence)
        if entry is not None:
            scope = command_pb2.Command.FromString(_wire.command_of(entry)).scope
            unreported = self._unreported.setdefault(scope, [])
            if len(unreported) < _MOST_FAILURES:
                unreported.append(error)
