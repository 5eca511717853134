"""Forward mode (`tf.autodiff.ForwardAccumulator`)."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from gradtape import _context, _wire, nest
from gradtape._execute import command, same_session
from gradtape._session import Session
from gradtape._signature import Signature
from gradtape.backprop import UnconnectedGradients, densely, follow, presence
from gradtape.tensor import Value, cast, convert_to_tensor

# Apart from the numbers of tapes.
_serials = itertools.count(-1, -1)


class ForwardAccumulator:
    """Computes Jacobian-vector products while operations run.

    Tapes and accumulators nest as their blocks do: an outer one sees what an inner one computes,
    never the other way round.

    Args:
        primals: Tensor, variable or nest of them.
        tangents: The direction: tensors in the structure of `primals`, of their shapes.
    """

    def __init__(self, primals: Any, tangents: Any) -> None:
        flat, along = nest.flatten(primals), nest.flatten(tangents)
        if len(flat) != len(along):
            raise ValueError("The primals and tangents do not have the same structure.")
        if len({id(primal) for primal in flat}) != len(flat):
            raise ValueError(
                "A Tensor was specified as a primal multiple times. This may indicate an error. "
                "If it was intended, please sum the corresponding tangents."
            )
        for primal in flat:
            if not isinstance(primal, Value):
                raise ValueError(f"Primals must be Tensors or Variables, not {primal!r}.")
        scope = _context.scope()
        values = [_tangent(primal, of) for primal, of in zip(flat, along, strict=True)]
        self._scope, self._session = scope, scope.session
        same_session(scope.session, (*flat, *values))
        self._signature = Signature(("forward",))
        self._serial = next(_serials)
        self._recording = False
        self._heard_by: weakref.WeakSet[Any] = weakref.WeakSet()
        scope.events += 1
        self._opened = self._resumed = scope.events
        self._handle = scope.session.new_handle()
        for listener in (self, *scope.tapes):
            signature = listener._signature
            who = None if listener is self else signature.tape_number(self)
            numbers = [tuple(map(signature.number, group)) for group in (flat, values)]
            signature.step(("accumulate", who, *numbers))
        body = (
            _wire.handle_field(1, self._handle)
            + _wire.handles_field(2, (value._handle for value in flat))
            + _wire.handles_field(3, (value._handle for value in values))
        )
        command(_wire.OPEN_ACCUMULATOR, body + b"\x20\x01", scope)

    def __enter__(self) -> ForwardAccumulator:
        if self._recording:
            raise ValueError("Accumulator is already recording.")
        scope = _context.scope()
        same_session(scope.session, (self,))
        if scope is not self._scope:
            self._signature.lose_track()
            self._scope = scope
        scope.events += 1
        self._resumed = scope.events
        self._tell("resume")
        self._heard_by.update(scope.tapes)
        command(_wire.RESUME_TAPE, _wire.handle_field(1, self._handle), scope)
        scope.tapes.append(self)
        self._recording = True
        return self

    def __exit__(self, *_: object) -> None:
        if not self._recording:
            return
        scope = self._scope
        scope.tapes.remove(self)
        self._recording = False
        self._tell("stop")
        command(_wire.STOP_TAPE, _wire.handle_field(1, self._handle), scope)

    def __del__(self) -> None:
        session: Session | None = getattr(self, "_session", None)
        if session is not None and hasattr(self, "_handle"):
            body = _wire.handle_field(1, self._handle)
            session.append_from_finalizer(_wire.entry(_wire.CLOSE_TAPE, body, b""))
            session._free.append(self._handle)

    def jvp(self, primals: Any, unconnected_gradients: Any = UnconnectedGradients.NONE) -> Any:
        """Looks up the tangents of values. It can be called again, and after the block.

        Args:
            primals: Tensor, variable or nest of them; the result has the same structure.
            unconnected_gradients: The tangent of a value that does not depend on the primals.
        """
        zero = UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
        scope = _context.scope()
        session, signature = scope.session, self._signature
        flat = [v if isinstance(v, Value) else convert_to_tensor(v) for v in nest.flatten(primals)]
        same_session(session, (self, *flat))
        if scope is not self._scope:
            signature.lose_track()
        numbers = tuple(map(signature.number, flat))
        outs = [session.new_handle() for _ in flat]
        body = (
            _wire.handle_field(1, self._handle)
            + _wire.handles_field(2, (value._handle for value in flat))
            + _wire.handles_field(3, outs)
            + (b"\x20\x02" if zero else b"")
        )
        query = ("jvp", numbers, zero)
        answer = presence(scope, signature.node, query, (_wire.READ_TANGENT, body))
        # Who heard the tangents being computed knows them, recording or not.
        listeners = list(dict.fromkeys((*scope.tapes, *self._heard_by)))
        follow(self, scope, listeners, ("jvp", zero), (flat,))
        specs = ((value._dtype, value._shape) for value in flat)
        return nest.pack_sequence_as(primals, densely(session, outs, answer, specs, listeners))

    def _tell(self, event: str) -> None:
        """Lets the tapes and accumulators of the scope follow what happens to this one."""
        for listener in (self, *self._scope.tapes):
            signature = listener._signature
            who = None if listener is self else signature.tape_number(self)
            signature.step((event, who))


def _tangent(primal: Value, tangent: Any) -> Value:
    if not isinstance(tangent, Value):
        tangent = convert_to_tensor(tangent, primal._dtype)
    return tangent if tangent._dtype is primal._dtype else cast(tangent, primal._dtype)


__all__ = ["ForwardAccumulator"]
