"""Gradient tapes (`tf.GradientTape`)."""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gradtape import _context, _wire, dtypes, nest
from gradtape._execute import command, same_session, send
from gradtape._form import Form, of_shape
from gradtape._proto import command_pb2
from gradtape._session import Call, Session
from gradtape._signature import MISPREDICTED, Node, Signature
from gradtape.custom_gradient import Explanation, Hop
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, TensorShape, Value, convert_to_tensor
from gradtape.variable import Variable

_DENSE = command_pb2.GRADIENT_KIND_DENSE
_SPARSE = command_pb2.GRADIENT_KIND_SPARSE
_ABSENT = command_pb2.GRADIENT_KIND_ABSENT
_EXPECTED_KINDS = command_pb2.ComputeGradient.EXPECTED_KINDS_FIELD_NUMBER
_serials = itertools.count()

# By whether the tape is persistent, and whether it watches what is read.
_OPEN = {
    (persistent, accessed): _wire.Template(
        _wire.OPEN_TAPE,
        (1, b"\x10\x01" if persistent else b"", b"" if accessed else b"\x18\x00"),
    )
    for persistent in (False, True)
    for accessed in (False, True)
}
_RESUME = _wire.Template(_wire.RESUME_TAPE, (1,))
_STOP = _wire.Template(_wire.STOP_TAPE, (1,))
_CLOSE = _wire.Template(_wire.CLOSE_TAPE, (1,))


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
            session.append_from_finalizer(session.untagged[_CLOSE] % self._handle)
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
            send(_OPEN[self._persistent, self._accessed], (self._handle,), scope)
        else:
            same_session(scope.session, (self,))
            if scope is not self._scope:
                self._signature.lose_track()
            if self._used:
                self._signature.reset()
                self._used = False
            self._tell(("resume",))
            send(_RESUME, (self._handle,), scope)
            self._scope = scope
        scope.tapes.append(self)
        self._recording = True

    def _stop(self) -> None:
        scope = self._scope
        scope.tapes.remove(self)
        self._recording = False
        self._tell(("stop",))
        send(_STOP, (self._handle,), scope)

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
        self._check_usable()
        zero = unconnected_gradients is not UnconnectedGradients.NONE and (
            UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
        )
        if target is None:
            raise TypeError(
                "Argument `target` should be a list or nested structure of Tensors, "
                "Variables or CompositeTensors to be differentiated, but received None."
            )
        targets = _values(target)
        flat = _values(sources)
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
        return found[0] if flat[0] is sources else nest.pack_sequence_as(sources, found)

    def explain(self, target: Any, source: Any) -> Explanation:
        """Says why a target has a gradient with respect to a source, or why it has none.

        Not in TensorFlow. It waits for the server, and changes nothing.

        Args:
            target: Tensor or variable.
            source: Tensor or variable.
        """
        self._check_usable()
        of, source = _value(target), _value(source)
        scope = _context.scope()
        same_session(scope.session, (of, source))
        handles = (self._handle, of._handle, source._handle)
        body = b"".join(_wire.handle_field(i, handle) for i, handle in enumerate(handles, 1))
        call = scope.session.call(_wire.EXPLAIN, body, scope.tail())
        reply = scope.session.wait(call, scope.number).explanation
        reason = command_pb2.AbsentReason.Name(reply.absent_reason)
        hops = (
            Hop(hop.op, tuple(hop.output.shape), dtypes.BY_NUMBER[hop.output.dtype].name, hop.tag)
            for hop in reply.path
        )
        absent = reason.removeprefix("ABSENT_REASON_").lower() if reply.absent_reason else None
        return Explanation(absent, tuple(hops), reply.elided)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """Differentiates each element of the target with respect to each element of each source.

        The server sweeps for many elements at a time, whatever the last two arguments say.

        Args:
            target: Tensor or variable.
            sources: Tensor, variable or nest of them; the result has the same structure.
            unconnected_gradients: What a Jacobian without a path is.
            parallel_iterations: Accepted for TensorFlow's sake.
            experimental_use_pfor: Accepted for TensorFlow's sake.

        Returns:
            For each source a tensor of the target's shape and then the source's.
        """
        del parallel_iterations, experimental_use_pfor
        self._check_usable()
        zero = UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
        of, flat = _one_target(target), [_value(item) for item in nest.flatten(sources)]
        shapes = [
            None
            if of._shape is None or source._shape is None
            else TensorShape((*of._shape, *source._shape))
            for source in flat
        ]
        found = self._jacobians(_wire.COMPUTE_JACOBIAN, of, flat, shapes, zero)
        return nest.pack_sequence_as(sources, found)

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Tensor:
        """Differentiates the target's elements with respect to the source's of the same example.

        Args:
            target: Tensor or variable of shape [b, y1, ...].
            source: Tensor or variable of shape [b, x1, ...].
            unconnected_gradients: Without a path the result is zeros in any case, as in TensorFlow.
            parallel_iterations: Accepted for TensorFlow's sake.
            experimental_use_pfor: Accepted for TensorFlow's sake.

        Returns:
            A tensor of shape [b, y1, ..., x1, ...].
        """
        del parallel_iterations, experimental_use_pfor
        self._check_usable()
        UnconnectedGradients(unconnected_gradients)
        of, by = _one_target(target), _one_target(source)
        rows, columns = of._shape, by._shape
        shape = None
        if rows is not None and columns is not None:
            if len(rows) < 2 or len(columns) < 2 or rows[0] != columns[0]:
                raise ValueError(
                    "Need at least two dimensions and the same first one of target shape "
                    f"({rows}) and source shape ({columns})."
                )
            shape = TensorShape((*rows, *columns[1:]))
        return self._jacobians(_wire.COMPUTE_BATCH_JACOBIAN, of, [by], [shape], True)[0]

    def _check_usable(self) -> None:
        if self._used or self._session is None:
            raise RuntimeError(
                "A non-persistent GradientTape can only be used to compute one set of gradients "
                "(or jacobians)"
            )

    def _jacobians(
        self,
        kind: int,
        target: Value,
        sources: list[Value],
        shapes: list[TensorShape | None],
        zero: bool,
    ) -> list[Any]:
        if self._recording and not self._persistent:
            self._stop()
        scope = _context.scope()
        session, signature = scope.session, self._signature
        same_session(session, (self, target, *sources))
        if scope is not self._scope:
            signature.lose_track()
        numbers = (signature.number(target), *map(signature.number, sources))
        outs = [session.new_handle() for _ in sources]
        body = [_wire.handle_field(1, self._handle), _wire.handle_field(2, target._handle)]
        if kind == _wire.COMPUTE_JACOBIAN:
            body.append(_wire.handles_field(3, (source._handle for source in sources)))
            body.append(_wire.handles_field(4, outs) + (b"\x28\x02" if zero else b""))
        else:
            body.append(_wire.handle_field(3, sources[0]._handle))
            body.append(_wire.handle_field(4, outs[0]))
        query = (kind, numbers, zero)
        answer = presence(scope, signature.node, query, (kind, b"".join(body)))
        self._used = not self._persistent
        self._follow(scope, (kind, zero), ((target,), sources))
        specs = zip((source._dtype for source in sources), shapes, strict=True)
        return densely(session, outs, answer, specs, scope.tapes)

    def _compute(
        self, targets: list[Value], sources: list[Value], seeds: list[Any], zero: bool
    ) -> list[Any]:
        scope = _context.scope()
        session, signature = scope.session, self._signature
        given = [seed for seed in seeds if seed is not None] if seeds else seeds
        same_session(session, (self, *targets, *sources, *given))
        if scope is not self._scope:
            signature.lose_track()
        seeded = tuple([seed is None for seed in seeds]) if seeds else ()
        query = (
            "gradient",
            tuple(map(signature.number, targets)),
            tuple(map(signature.number, sources)),
            seeded,
            zero,
        )
        # Numbering the sources may have moved the signature on: the answer belongs where it is now.
        node = signature.node
        answer = node.answers.get(query)
        # As long as nobody knows, each of them may turn out to be sparse.
        forms = answer or ((_SPARSE, None),) * len(sources)
        question = _question(len(targets), forms, seeded, zero, answer is not None)
        handles = [self._handle, *[t._handle for t in targets], *[s._handle for s in sources]]
        outs = []
        for kind, _ in forms:
            out, row = session.new_handle(), b""
            handles.append(out)
            if kind == _SPARSE:
                row = session.new_handle()
                handles.append(row)
            outs.append((out, row))
        handles += [seed._handle for seed in given]
        entry = scope.site()[question] % tuple(handles)
        if answer is not None:
            session.append(entry)
        else:
            infos = session.wait(session.ask(Call(entry)), scope.number).gradient.gradients
            forms = node.answers[query] = tuple(
                (
                    info.kind,
                    self._index_dtype(session, scope, row) if info.kind == _SPARSE else None,
                )
                for info, (_, row) in zip(infos, outs, strict=True)
            )
        if scope.tapes:
            self._follow(scope, ("gradient", seeded, zero), (targets, sources, given))
        results: list[Any] = []
        for source, (out, row), (kind, dtype) in zip(sources, outs, forms, strict=True):
            if row and kind != _SPARSE:
                session.dead.append(row)
            if kind == _ABSENT:
                session.dead.append(out)
                results.append(None)
            elif kind == _SPARSE:
                values = Tensor(session, out, source._dtype, Form())
                indices = Tensor(session, row, dtype, Form())
                results.append(IndexedSlices(values, indices, tuple(source.shape)))
                for tape in scope.tapes:
                    tape._signature.add(values)
                    tape._signature.add(indices)
            else:
                made = Tensor(session, out, source._dtype, source._form)
                results.append(made)
                for tape in scope.tapes:
                    tape._signature.add(made)
        return results

    def _follow(
        self, scope: Any, event: tuple[Any, ...], groups: tuple[Sequence[Value], ...]
    ) -> None:
        """Lets the tapes that record what this tape computes follow it."""
        follow(self, scope, scope.tapes, event, groups)

    @staticmethod
    def _index_dtype(session: Any, scope: Any, row: bytes) -> dtypes.DType:
        call = session.call(_wire.DESCRIBE, _wire.handle_field(1, row), scope.tail())
        return dtypes.BY_NUMBER[session.wait(call, scope.number).spec.dtype]


@functools.lru_cache(1_024)
def _question(
    targets: int, forms: tuple[Any, ...], seeded: tuple[bool, ...], zero: bool, is_expected: bool
) -> _wire.Template:
    """Returns the command that computes gradients.

    Its handles are the tape, the targets, the sources, the results, of sparse ones two each, and
    the seeds.

    Args:
        targets: How many there are.
        forms: Of each source, the kind of its gradient and the dtype of its row numbers.
        seeded: Of each seed, whether it is left out.
        zero: Whether a gradient without a path is zeros.
        is_expected: Whether the server is told the kinds: then it replies only if they are others.
    """
    kinds = [kind for kind, _ in forms]
    outs = [(4, (1, 2) if kind == _SPARSE else (1,)) for kind in kinds]
    layout: list[Any] = [1, (2, (0,) * targets), (3, (0,) * len(kinds)), *outs]
    if seeded:
        layout.append((5, [b"\x00" if is_left_out else 0 for is_left_out in seeded]))
    if zero:
        layout.append(_wire.number_field(6, command_pb2.UNCONNECTED_GRADIENTS_ZERO))
    if is_expected:
        layout.append(_wire.bytes_field(_EXPECTED_KINDS, bytes(kinds)))
    return _wire.Template(_wire.COMPUTE_GRADIENT, layout)


def presence(scope: Any, node: Node, query: Any, command: tuple[int, bytes]) -> tuple[Any, ...]:
    """Sends a command whose results are dense or absent, and says which they are.

    The server says it the first time; then it is predicted, and verified by the reply.

    Args:
        scope: Where the command is sent.
        node: The pattern that the answer depends on.
        query: What is asked, in the pattern's own numbers.
        command: Kind and body.

    Returns:
        For each result its kind, and None.
    """
    session, (kind, body) = scope.session, command
    entry = _wire.entry(kind, body, scope.tail())
    answer = node.answers.get(query)
    if answer is None:
        infos = session.wait(session.ask(Call(entry)), scope.number).gradient.gradients
        answer = node.answers[query] = tuple((info.kind, None) for info in infos)
        return answer

    def verify(reply: command_pb2.Reply) -> str | None:
        if not reply.HasField("gradient"):
            return None
        if tuple((info.kind, None) for info in reply.gradient.gradients) == answer:
            return None
        node.answers.pop(query, None)
        return MISPREDICTED

    session.append(Call(entry, verify))
    return answer


def follow(
    owner: Any,
    scope: Any,
    listeners: Iterable[Any],
    event: tuple[Any, ...],
    groups: tuple[Sequence[Value], ...],
) -> None:
    """Lets listeners follow what a tape or accumulator of the scope was asked for.

    Args:
        owner: The tape or accumulator.
        scope: The scope that asks.
        listeners: Tapes and accumulators.
        event: What was asked for.
        groups: The values that it was about.
    """
    for listener in listeners:
        signature = listener._signature
        if listener is not owner and (
            scope is not owner._scope or listener._resumed > owner._opened
        ):
            # It did not see all that the owner recorded.
            signature.lose_track()
            continue
        numbers = [tuple(map(signature.number, group)) for group in groups]
        who = None if listener is owner else signature.tape_number(owner)
        signature.step((*event, who, *numbers))


def densely(
    session: Session,
    outs: list[bytes],
    answer: tuple[Any, ...],
    specs: Iterable[tuple[dtypes.DType, TensorShape | None]],
    listeners: Iterable[Any],
) -> list[Any]:
    """Returns results that are dense or absent, and adds them to what the listeners know."""
    results: list[Any] = []
    for out, (kind, _), (dtype, shape) in zip(outs, answer, specs, strict=True):
        if kind == _ABSENT:
            session.dead.append(out)
            results.append(None)
            continue
        made = Tensor(session, out, dtype, Form() if shape is None else of_shape(shape))
        results.append(made)
        for listener in listeners:
            listener._signature.add(made)
    return results


def _values(structure: Any) -> list[Value]:
    """The values in a structure, most often a single one."""
    if isinstance(structure, Value):
        return [structure]
    return [_value(item) for item in nest.flatten(structure)]


def _value(item: Any) -> Value:
    if isinstance(item, Value):
        return item
    if item is None:
        raise TypeError("Targets and sources must be Tensors or Variables, not None.")
    return convert_to_tensor(item)


def _one_target(item: Any) -> Value:
    if nest.is_nested(item):
        raise TypeError("A Jacobian is of one Tensor or Variable, not of a nest of them.")
    return _value(item)


__all__ = ["GradientTape", "TensorShape", "UnconnectedGradients"]
