"""A session on the server: what a program makes there, and what it waits for and is told of."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from gradtape import _wire, errors
from gradtape._call import Call
from gradtape._channel import Target, attempts_within, from_status
from gradtape._proto import (
    command_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    tape_service_pb2,
    tape_service_pb2_grpc,
    tensor_pb2,
)
from gradtape._stream import Stream

if TYPE_CHECKING:
    from gradtape._proto.error_pb2 import Error
    from gradtape.variable import Variable

CLIENT = "gradtape-python/0.1.0"
PROTOCOL_VERSION = 1

# How long the first connection may take.
_CONNECT_SECONDS = 20.0
# How long a session that ends tries to be deleted: the server forgets it in time.
_DELETE_SECONDS = 5.0
# Elements that a Constant or a Fetch may carry.
INLINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


class Session(Stream):
    """The server-side owner of everything that a program made."""

    def __init__(self, target: Target | str) -> None:
        self._target = Target(target) if isinstance(target, str) else target
        channel = self._target.channel()
        try:
            response = session_service_pb2_grpc.SessionServiceStub(channel).CreateSession(
                session_service_pb2.CreateSessionRequest(
                    client=CLIENT, protocol_version=PROTOCOL_VERSION
                ),
                timeout=_CONNECT_SECONDS,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            channel.close()
            context = f"cannot open a session at {self._target.address}: "
            raise from_status(error, context) from None
        limits = response.server.limits
        super().__init__(channel, self._target.address, response.credentials, limits)
        self._chunk_bytes = min(limits.max_chunk_bytes or _CHUNK_BYTES, _CHUNK_BYTES)
        self.inline_bytes = min(limits.max_inline_tensor_bytes or INLINE_BYTES, INLINE_BYTES)
        # Memory that the values may take together.
        self.most_bytes = limits.max_session_bytes
        self.variables: weakref.WeakValueDictionary[bytes, Variable] = weakref.WeakValueDictionary()
        self.constants: dict[Any, Any] = {}
        self._scopes = itertools.count()
        self._uploads = itertools.count(1)
        self._closing = False
        self._open()

    def new_scope(self) -> int:
        """Returns the number of a new thread of execution."""
        return next(self._scopes)

    def call(self, kind: int, body: bytes, tail: bytes) -> Call:
        """Sends a command at once; `wait` for its reply."""
        return self.ask(Call(_wire.entry(kind, body, tail)))

    def wait(self, call: Call, scope: int) -> command_pb2.Reply:
        """Waits for a reply, raising what went wrong in the scope up to there."""
        with self._cancelling():
            self._raise_if_closed()
            call.done.acquire()
        if call.failure is not None:
            raise call.failure
        reply = call.reply
        assert reply is not None, "a finished call has a reply or a failure"
        self.raise_unreported(scope)
        if reply.HasField("error"):
            raise self._exception(reply.error)
        return reply

    def sync(self, scope: int, tail: bytes, level: int = 0, timeout_ms: int = 0) -> None:
        """Waits until everything is done and has reached a level; raises what went wrong."""
        body = _wire.number_field(1, level) + _wire.number_field(2, timeout_ms)
        reply = self.wait(self.call(_wire.SYNC, body, tail), scope)
        if reply.sync.level < level:
            raise errors.DeadlineExceededError(
                f"everything is applied, durable up to command {reply.sync.durable_sequence} "
                f"and portable up to command {reply.sync.portable_sequence} of {reply.sequence}"
            )

    def raise_unreported(self, scope: int) -> None:
        """Raises the first failure that the scope's program has not been told of."""
        with self._state:
            promises, self._broken_promises = self._broken_promises, []
            failures = self._unreported.pop(scope, [])
        if promises:
            raise errors.InternalError(promises[0], reason="GRADIENT_PREDICTION")
        if failures:
            error = self._exception(failures[0])
            others = sum(failure.reason != "POISONED" for failure in failures[1:])
            if others:
                error.args = (f"{error.args[0]}\n({others} more operations failed after it)",)
            raise error

    def clear_errors(self, scope: int) -> None:
        """Forgets failures that the scope's program has not been told of."""
        with self._state:
            self._unreported.pop(scope, None)

    def upload(self, dtype_shape: bytes, data: memoryview) -> int:
        """Sends a tensor's elements in chunks and returns the number of the upload."""
        upload = self.new_upload()
        header = tape_service_pb2.UploadHeader(
            credentials=self._credentials,
            upload=upload,
            spec=tensor_pb2.TensorSpec.FromString(dtype_shape),
        )

        def requests() -> Iterator[tape_service_pb2.UploadTensorRequest]:
            yield tape_service_pb2.UploadTensorRequest(header=header)
            for start in range(0, len(data), self._chunk_bytes):
                chunk = bytes(data[start : start + self._chunk_bytes])
                yield tape_service_pb2.UploadTensorRequest(chunk=chunk)

        self._retry(lambda stub: stub.UploadTensor(requests()))
        return upload

    def new_upload(self) -> int:
        """Returns a number for an upload that no other has."""
        return next(self._uploads)

    @property
    def credentials(self) -> session_service_pb2.SessionCredentials:
        """The right to use the session."""
        return self._credentials

    @property
    def channel(self) -> grpc.Channel:
        """The connection, for calls that are not the session's."""
        return self._channel

    @property
    def applied(self) -> int:
        """The number of the last command that is known to be applied."""
        return self._window.applied

    def stop_loop(self, call: Call) -> None:
        """Stops a loop, and those that were sent before it, after the step that it is at."""
        with self._state:
            while not call.sequence and self._fatal is None:
                self._state.wait(1.0)
        self._raise_if_closed()
        request = tape_service_pb2.StopLoopRequest(
            credentials=self._credentials, sequence=call.sequence
        )
        self._retry(lambda stub: stub.StopLoop(request))

    def download(self, handle: bytes, size: int) -> bytearray:
        """Receives the elements of a value whose existence a reply has shown."""

        def receive(stub: tape_service_pb2_grpc.TapeServiceStub) -> bytearray:
            out = bytearray()
            request = tape_service_pb2.DownloadTensorRequest(
                credentials=self._credentials,
                value=_wire.read_varint(handle),
                after_sequence=self._window.applied,
            )
            for response in stub.DownloadTensor(request):
                out += response.chunk
            return out

        data = self._retry(receive)
        if len(data) != size:
            raise errors.DataLossError(f"a download has {len(data)} bytes instead of {size}")
        return data

    def close(self, *, delete: bool = True) -> list[Error]:
        """Sends what is left, ends the session and returns the failures nobody was told of.

        A connection that is lost meanwhile is opened again.
        """
        with self._state:
            if self._closing:
                return []
            self._closing = True
            # A session that was lost is not ours to delete: another program may have taken it over.
            lost = self._fatal is not None
        if not lost:
            with contextlib.suppress(errors.OpError):
                self.call(_wire.SYNC, b"", b"").done.acquire(timeout=10.0)
        failures = self._end(errors.CancelledError("the session is closed"))
        if delete and not lost:
            with contextlib.suppress(errors.OpError):
                self._delete()
        self._channel.close()
        return failures

    def _delete(self) -> None:
        stub = session_service_pb2_grpc.SessionServiceStub(self._channel)
        request = session_service_pb2.DeleteSessionRequest(credentials=self._credentials)
        # If only the answer was lost, the next one is that there is no such session.
        self._retry(
            lambda _: stub.DeleteSession(request, timeout=_DELETE_SECONDS),
            attempts_within(_DELETE_SECONDS),
        )

    def _exception(self, error: Error) -> errors.OpError:
        root = self._failures.get(error.root_sequence)
        return errors.from_proto(error, root)
