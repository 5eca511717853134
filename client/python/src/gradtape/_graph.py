"""A function on its way to the server: what its commands use of what is outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gradtape import _wire
from gradtape._call import Call
from gradtape._context import Scope
from gradtape._proto import function_pb2
from gradtape._signature import Listener, new_serial

if TYPE_CHECKING:
    from gradtape.tensor import Tensor, Value


class Graph(Listener):
    """What a thread shows as the body of a function.

    It stands among the tapes of the scope, and so hears of every value that is used.
    """

    # As tapes have them: it was there before everything that the body opens.
    _serial = -1
    _resumed = -1

    def __init__(self, scope: Scope) -> None:
        self.session = scope.session
        self._scope = scope
        self._signature = self
        # Tensors with a serial number from here on belong to the body.
        self._first = new_serial()
        # Small constants of the body, which end with it.
        self.constants: dict[Any, Any] = {}
        self.captures: dict[int, Any] = {}
        # Which generators there were when the body drew random numbers.
        self.random: int | None = None
        self.own_gradient = False
        self._handle = b""
        self._open = False
        # The body that this one is nested in.
        self._outer = scope.graph

    def is_symbolic(self, value: Value) -> bool:
        """Says whether a value has no elements before the function is called."""
        if value._serial >= self._first:
            return True
        return self._outer is not None and self._outer.is_symbolic(value)

    @contextlib.contextmanager
    def shown(self, handle: bytes) -> Iterator[Callable[[Sequence[Tensor]], None]]:
        """Makes the commands of the block, from the call of what it yields on, the body."""
        scope = self._scope
        self._handle = handle
        tapes, scope.tapes = scope.tapes, [self]  # type: ignore[list-item]
        scope.graph = self
        try:
            yield self._begin
        except BaseException:
            if self._open:
                self.session.append(self._end(b"\x18\x01"))
            self.session.dead.append(handle)
            raise
        finally:
            scope.graph, scope.tapes = self._outer, tapes

    def _begin(self, parameters: Sequence[Tensor]) -> None:
        body = _wire.handle_field(1, self._handle)
        body += _wire.handles_field(2, (value._handle for value in parameters))
        for value in parameters:
            body += _wire.bytes_field(3, _wire.spec(value._dtype, value.shape))
        self._open = True
        self.session.append(_wire.entry(_wire.DEFINE_FUNCTION, body, self._scope.tail()))

    def finish(self, results: Sequence[Tensor]) -> function_pb2.FunctionReply:
        """Ends the body. Raises what was wrong with it."""
        entry = self._end(_wire.handles_field(2, (value._handle for value in results)))
        return self.session.wait(self.session.ask(Call(entry)), self._scope.number).function

    def _end(self, body: bytes) -> bytes:
        self._open = False
        body = _wire.handle_field(1, self._handle) + body
        return _wire.entry(_wire.FINISH_FUNCTION, body, self._scope.tail())

    # === As the signature of a tape ===

    def number(self, value: Any) -> int:
        """Hears that something is used."""
        if value._serial < self._first:
            self.captures[value._serial] = value
        return 0

    def step(self, key: Any) -> None:
        """Hears of an event."""
        if key and key[0] in ("custom gradient", "function"):
            self.own_gradient = True
