"""Exceptions with TensorFlow's names, one for each status code (`tf.errors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradtape._proto.error_pb2 import Error


class OpError(Exception):
    """An operation failed on the server.

    Attributes:
        message: What was wrong, what was expected and where.
        error_code: The `google.rpc.Code`.
        reason: The server's machine-readable reason, for example "SHAPE_MISMATCH".
        op: Name of the op that failed, if one did.
        tag: The line of the program that asked for it, as "train.py:12".
    """

    error_code = 2

    def __init__(self, message: str, *, reason: str = "", op: str = "", tag: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.op = op
        self.tag = tag


class OperatorNotAllowedInGraphError(TypeError):
    """Python asked for the elements of a value in the body of a `tf.function`."""


class CancelledError(OpError):
    """The operation was cancelled."""

    error_code = 1


class UnknownError(OpError):
    """An error of no known kind."""

    error_code = 2


class InvalidArgumentError(OpError):
    """A shape, dtype or attribute does not fit."""

    error_code = 3


class DeadlineExceededError(OpError):
    """The operation took too long."""

    error_code = 4


class NotFoundError(OpError):
    """A value, session or op does not exist."""

    error_code = 5


class AlreadyExistsError(OpError):
    """What should be created is there already."""

    error_code = 6


class PermissionDeniedError(OpError):
    """The caller may not do this."""

    error_code = 7


class ResourceExhaustedError(OpError):
    """A limit is reached: memory, commands, sessions."""

    error_code = 8


class FailedPreconditionError(OpError):
    """The state does not allow it, for example a tape that is used up."""

    error_code = 9


class AbortedError(OpError):
    """The operation conflicts with another one."""

    error_code = 10


class OutOfRangeError(OpError):
    """An index lies outside."""

    error_code = 11


class UnimplementedError(OpError):
    """The server cannot do this."""

    error_code = 12


class InternalError(OpError):
    """A promise of the server or of this package was broken."""

    error_code = 13


class UnavailableError(OpError):
    """The server cannot be reached."""

    error_code = 14


class DataLossError(OpError):
    """Data were lost or damaged."""

    error_code = 15


class UnauthenticatedError(OpError):
    """The caller did not say who it is."""

    error_code = 16


_BY_CODE: dict[int, type[OpError]] = {
    cls.error_code: cls for cls in OpError.__subclasses__() if cls is not UnknownError
}


def exception_type(code: int) -> type[OpError]:
    """Returns the class for a `google.rpc.Code`."""
    return _BY_CODE.get(code, UnknownError)


def from_proto(error: Error, root: Error | None = None) -> OpError:
    """Makes the exception for what the server said.

    Args:
        error: The failure of the command that was asked for.
        root: The failure that led to it, where the command only met a poisoned value.
    """
    from gradtape.dtypes import spec_text

    cause = root or error
    lines = [cause.message or cause.reason]
    if cause.op:
        lines[0] += f" [Op:{cause.op}]"
    if cause.inputs:
        lines.append("inputs: " + ", ".join(map(spec_text, cause.inputs)))
    tag = cause.tag or error.root_tag
    if tag:
        lines.append(f"at {tag}")
    if cause.hint:
        lines.append(f"hint: {cause.hint}")
    return exception_type(cause.code)("\n".join(lines), reason=cause.reason, op=cause.op, tag=tag)
