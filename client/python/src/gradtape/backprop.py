"""Gradient tapes (`tf.GradientTape`)."""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Iterator
from typing import Any

from gradtape import _context, _wire, dtypes, nest
from gradtape._execute import command, same_session
from gradtape._form import Form
from gradtape._proto import command_pb2
from gradtape._session import Call, Session
from gradtape._signature import Signature
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, TensorShape, Value, convert_to_tensor
from gradtape.variable import Variable

_DENSE = command_pb2.GRADIENT_KIND_DENSE
_SPARSE = command_pb2.GRADIENT_KIND_SPARSE
_ABSENT = command_pb2.GRADIENT_KIND_ABSENT
_serials = itertools.count()


class UnconnectedGradients(enum.Enum):
    """What a gradient without a path is: `None` or zeros."""

    NONE = "none"
    ZERO = "zero"


class GradientTape:
    """Records operations and differentiates them.

    Args:
        persistent: Whether it answers more than one gradient.
        watch_accessed_variables: Whether trainable variables are watched when they are read.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = bool(persistent)
        self._accessed = bool(watch_accessed_variables)
        self._signature = Signature((self._persistent, self._accessed))
        self._serial = next(_serials)
        self._handle: bytes = b""
        self._session: Session | None = None
        self._scope: Any = None
        self._recording = False
        self._used = False
        self._opened = self._resumed = 0

    def __enter__(self) -> GradientTape:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._recording:
            self._stop()

    def __del__(self) -> None:
        session = self._session
        if session is not None:
            body = _wire.handle_field(1, self._handle)
            session.append_from_finalizer(_wire.entry(_wire.CLOSE_TAPE, body, b""))
            session._free.append(self._handle)

    def _start(self) -> None:
        if self._recording:
            raise ValueError(
                "Tape is still recording, This can happen if you try to re-enter an "
                "already-active tape."
            )
        scope = _context.scope()
        scope.events += 1
        self._resumed = scope.events
        if self._session is None:
            self._scope, self._opened = scope, scope.events
            self._session = scope.session
            self._handle = scope.session.new_handle()
            self._tell(("open", self._persistent, self._accessed))
            body = _wire.handle_field(1, self._handle) + (b"\x10\x01" if self._persistent else b"")
            command(_wire.OPEN_TAPE, body + (b"" if self._accessed else b"\x18\x00"), scope)
        else:
            same_session(scope.session, (self,))
            if scope is not self._scope:
                self._signature.lose_track()
            if self._used:
                self._signature.reset()
                self._used = False
            self._tell(("resume",))
            command(_wire.RESUME_TAPE, _wire.handle_field(1, self._handle), scope)
            self._scope = scope
        scope.tapes.append(self)
        self._recording = True

    def _stop(self) -> None:
        scope = self._scope
        scope.tapes.remove(self)
        self._recording = False
        self._tell(("stop",))
        command(_wire.STOP_TAPE, _wire.handle_field(1, self._handle), scope)

    def _tell(self, event: tuple[Any, ...]) -> None:
        """Lets the other tapes of the scope follow what happens to this one."""
        for tape in self._scope.tapes:
            if tape is not self:
                tape._signature.step((*event, tape._signature.tape_number(self)))

    def watch(self, tensor: Any) -> None:
        """Watches tensors or variables: what is computed from them later is recorded."""
        values = nest.flatten(tensor)
        for value in values:
            if not isinstance(value, Value):
                raise ValueError(
                    f"Passed in object {value!r} of type {type(value).__name__!r}, "
                    "not tf.Tensor or tf.Variable or ExtensionType."
                )
        if self._session is None:
            raise RuntimeError("GradientTape.watch needs a tape that was entered.")
        same_session(self._session, values)
        for value in values:
            for tape in {id(t): t for t in (self, *self._scope.tapes)}.values():
                signature = tape._signature
                who = None if tape is self else signature.tape_number(self)
                signature.step(("watch", who, signature.number(value)))
        handles = _wire.handles_field(2, (value._handle for value in values))
        command(_wire.WATCH_TAPE, _wire.handle_field(1, self._handle) + handles)

    @contextlib.contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Does not record inside the block."""
        if self._session is None or self._used:
            raise RuntimeError("Trying to stop recording a tape which is not recording.")
        if not self._recording:
            raise ValueError("Tape is not recording.")
        self._stop()
        try:
            yield
        finally:
            self._start()

    def reset(self) -> None:
        """Forgets everything recorded and watched."""
        if not self._recording:
            raise ValueError("Tape is not recording.")
        self._signature.reset()
        self._tell(("reset",))
        command(_wire.RESET_TAPE, _wire.handle_field(1, self._handle))

    def watched_variables(self) -> tuple[Variable, ...]:
        """Returns the variables watched, in the order of their creation."""
        if self._session is None:
            return ()
        scope = _context.scope()
        body = _wire.handle_field(1, self._handle)
        call = scope.session.call(_wire.LIST_WATCHED_VARIABLES, body, scope.tail())
        handles = map(_wire.varint, scope.session.wait(call, scope.number).variables.variables)
        return tuple(scope.session.variables[handle] for handle in handles)

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
    ) -> Any:
        """Differentiates the sum of the targets with respect to each source.

        Args:
            target: Tensor, variable or nest of them.
            sources: Tensor, variable or nest of them; the result has the same structure.
            output_gradients: Upstream gradients, one for each target; ones by default.
            unconnected_gradients: What a gradient without a path is.
        """
        if self._used or self._session is None:
            raise RuntimeError(
                "A non-persistent GradientTape can only be used to compute one set of gradients "
                "(or jacobians)"
            )
        zero = UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
        if target is None:
            raise TypeError(
                "Argument `target` should be a list or nested structure of Tensors, "
                "Variables or CompositeTensors to be differentiated, but received None."
            )
        targets = [_value(item) for item in nest.flatten(target)]
        flat = [_value(item) for item in nest.flatten(sources)]
        seeds: list[Any] = []
        if output_gradients is not None:
            seeds = [
                None
                if seed is None
                else seed
                if isinstance(seed, Value)
                else convert_to_tensor(seed, targets[i]._dtype if i < len(targets) else None)
                for i, seed in enumerate(nest.flatten(output_gradients))
            ]
        if self._recording and not self._persistent:
            self._stop()
        if not flat:
            return nest.pack_sequence_as(sources, [])
        found = self._compute(targets, flat, seeds, zero)
        self._used = not self._persistent
        return nest.pack_sequence_as(sources, found)

    def _compute(
        self, targets: list[Value], sources: list[Value], seeds: list[Any], zero: bool
    ) -> list[Any]:
        scope = _context.scope()
        session, signature = scope.session, self._signature
        same_session(session, (self, *targets, *sources, *(s for s in seeds if s is not None)))
        if scope is not self._scope:
            signature.lose_track()
        query = (
            "gradient",
            tuple(map(signature.number, targets)),
            tuple(map(signature.number, sources)),
            tuple(s is None for s in seeds),
            zero,
        )
        # Numbering the sources may have moved the signature on: the answer belongs where it is now.
        node = signature.node
        answer = node.answers.get(query)
        outs = [session.new_handle() for _ in sources]
        rows = [
            session.new_handle() if answer is None or answer[i][0] == _SPARSE else b""
            for i in range(len(sources))
        ]
        body = [
            _wire.handle_field(1, self._handle),
            _wire.handles_field(2, (t._handle for t in targets)),
            _wire.handles_field(3, (s._handle for s in sources)),
        ]
        for out, row in zip(outs, rows, strict=True):
            body.append(_wire.bytes_field(4, b"\x08" + out + (b"\x10" + row if row else b"")))
        body.append(_wire.handles_field(5, (b"\x00" if s is None else s._handle for s in seeds)))
        if zero:
            body.append(b"\x30\x02")
        data, tail = b"".join(body), scope.tail()
        if answer is None:
            call = session.call(_wire.COMPUTE_GRADIENT, data, tail)
            gradients = session.wait(call, scope.number).gradient.gradients
            answer = tuple((g.kind, None) for g in gradients)
            answer = tuple(
                (kind, self._index_dtype(session, scope, row) if kind == _SPARSE else None)
                for (kind, _), row in zip(answer, rows, strict=True)
            )
            node.answers[query] = answer
        else:
            kinds = [kind for kind, _ in answer]

            def verify(reply: command_pb2.Reply) -> str | None:
                if not reply.HasField("gradient"):
                    return None
                if [g.kind for g in reply.gradient.gradients] == kinds:
                    return None
                node.answers.pop(query, None)
                return "a gradient's presence was predicted wrongly; please report this program"

            session.append(Call(_wire.entry(_wire.COMPUTE_GRADIENT, data, tail), verify))
        self._follow(scope, targets, sources, seeds, zero)
        results: list[Any] = []
        for source, out, row, (kind, dtype) in zip(sources, outs, rows, answer, strict=True):
            if kind == _ABSENT:
                session.dead += [out, row] if row else [out]
                results.append(None)
                continue
            if kind == _SPARSE:
                values = Tensor(session, out, source._dtype, Form())
                indices = Tensor(session, row, dtype, Form())
                results.append(IndexedSlices(values, indices, tuple(source.shape)))
            else:
                if row:
                    session.dead.append(row)
                results.append(Tensor(session, out, source._dtype, source._form))
            made = results[-1]
            for tape in scope.tapes:
                if kind == _SPARSE:
                    tape._signature.add(made.values)
                    tape._signature.add(made.indices)
                else:
                    tape._signature.add(made)
        return results

    def _follow(self, scope: Any, targets: Any, sources: Any, seeds: Any, zero: bool) -> None:
        """Lets the tapes that record this gradient follow it."""
        for tape in scope.tapes:
            signature = tape._signature
            if tape is not self and (scope is not self._scope or tape._resumed > self._opened):
                # It did not see all that this tape recorded.
                signature.lose_track()
                continue
            numbers = [tuple(map(signature.number, group)) for group in (targets, sources)]
            seeded = tuple(s if s is None else signature.number(s) for s in seeds)
            who = None if tape is self else signature.tape_number(self)
            signature.step(("gradient", who, *numbers, seeded, zero))

    @staticmethod
    def _index_dtype(session: Any, scope: Any, row: bytes) -> dtypes.DType:
        call = session.call(_wire.DESCRIBE, _wire.handle_field(1, row), scope.tail())
        return dtypes.BY_NUMBER[session.wait(call, scope.number).spec.dtype]


def _value(item: Any) -> Value:
    if isinstance(item, Value):
        return item
    if item is None:
        raise TypeError("Targets and sources must be Tensors or Variables, not None.")
    return convert_to_tensor(item)


__all__ = ["GradientTape", "TensorShape", "UnconnectedGradients"]
