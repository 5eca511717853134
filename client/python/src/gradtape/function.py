"""`tf.function`: a Python function becomes one command, which the server runs by itself.

On the first call with arguments of a kind the function runs once to show what it does: its tensors
have a dtype and a shape and no elements, and the server keeps its commands as a function. Calls
with such arguments are then one command each, whatever the function does: read and assign
variables, ask tapes for gradients, step optimizers, draw random numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from gradtape import _context, _wire, errors, nest
from gradtape._context import CreationError, Scope
from gradtape._execute import same_session
from gradtape._form import of_shape
from gradtape._generator import generation
from gradtape._graph import Graph
from gradtape.dtypes import BY_NUMBER
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, Value, convert_to_tensor
from gradtape.tensor_shape import TensorShape, TensorSpec
from gradtape.variable import Variable

_eagerly = False
_serials = itertools.count()

# Traces of one function that are kept; the oldest go first.
_MOST_TRACES = 256


def run_functions_eagerly(run_eagerly: bool) -> None:
    """Lets all functions run as they are, without being traced, for looking into them.

    Args:
        run_eagerly: Whether they do.
    """
    global _eagerly
    _eagerly = bool(run_eagerly)


def functions_run_eagerly() -> bool:
    """Says whether functions run as they are."""
    return _eagerly


def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: Any = None,
    reduce_retracing: bool = False,
    experimental_implements: Any = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Any = None,
) -> Any:
    """Makes a function that the server runs as one command.

    It is traced once for each kind of arguments: dtypes and shapes of tensors, and values of
    everything else. Python's side effects happen while tracing only. Variables may be made in the
    first call, which then runs as it is. Control flow is Python's, so it cannot depend on elements.

    Args:
        func: The function; without it, what this returns decorates one.
        input_signature: A nest of `tf.TensorSpec` that the arguments must fit and are converted to.
        autograph: Accepted for TensorFlow's sake: Python's control flow is never translated.
        jit_compile: Accepted for TensorFlow's sake.
        reduce_retracing: Accepted for TensorFlow's sake: every shape is traced by itself.
        experimental_implements: Accepted for TensorFlow's sake.
        experimental_autograph_options: Accepted for TensorFlow's sake.
        experimental_attributes: Accepted for TensorFlow's sake.
    """
    if func is None:
        return functools.partial(function, input_signature=input_signature)
    return Function(func, input_signature)


class Function:
    """What `tf.function` makes."""

    def __init__(self, python_function: Callable[..., Any], input_signature: Any = None) -> None:
        functools.update_wrapper(self, python_function)
        self.python_function = python_function
        self.input_signature = None if input_signature is None else tuple(input_signature)
        self._parameters = inspect.signature(python_function)
        self._lock = threading.RLock()
        self._traces: dict[Hashable, ConcreteFunction] = {}
        self._traced = 0
        # When something was made in a call: `generation` of then.
        self._created: int | None = None
        self._bound: weakref.WeakKeyDictionary[Any, Function] = weakref.WeakKeyDictionary()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Binds a method; each instance has traces of its own, which end with it."""
        if instance is None:
            return self
        try:
            found = self._bound.get(instance)
            if found is None:
                # The method must not keep its instance, which would then never go.
                of = weakref.WeakMethod(self.python_function.__get__(instance))
                found = Function(_Method(of, self.python_function), self.input_signature)
                self._bound[instance] = found
            return found
        except TypeError:  # Without weak references or a hash there is nothing to remember it by.
            return Function(self.python_function.__get__(instance), self.input_signature)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, after tracing it if its arguments are of a new kind."""
        scope = _context.scope()
        if _eagerly or scope.graph is not None:
            # Within another function it becomes a part of it.
            return self.python_function(*args, **kwargs)
        args, kwargs = self._arguments(args, kwargs)
        try:
            concrete = self._concrete(scope, args, kwargs)
        except CreationError as creation:
            if self._created == generation():
                raise ValueError(
                    f"tf.function only supports {creation} in its first call: later ones are one "
                    "command each. Make it outside, or only once."
                ) from None
            self._created = generation()
            return self.python_function(*args, **kwargs)
        self._created = generation()
        if concrete.own_gradient and scope.tapes:
            # A tape cannot look into a custom gradient within a function.
            return self.python_function(*args, **kwargs)
        return concrete._call(scope, _tensors((args, kwargs)))

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """Traces the function for arguments, or for what `tf.TensorSpec`s describe.

        Args:
            args: Arguments; without any, those of `input_signature`.
            kwargs: Arguments.
        """
        if not args and not kwargs and self.input_signature is not None:
            args = self.input_signature
        args, kwargs = self._arguments(args, kwargs)
        try:
            return self._concrete(_context.scope(), args, kwargs)
        except CreationError as creation:
            raise ValueError(f"call the function once before: it makes {creation}") from None

    def explain(self, *args: Any, **kwargs: Any) -> Plan:
        """Says how the server computes a call with such arguments. Not in TensorFlow.

        Args:
            args: Arguments, as for `get_concrete_function`.
            kwargs: Arguments.
        """
        return self.get_concrete_function(*args, **kwargs).explain()

    def experimental_get_tracing_count(self) -> int:
        """Returns how often the function was traced."""
        return self._traced

    def _arguments(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Brings arguments into one order, and arrays into tensors."""
        if self.input_signature is not None:
            return self._as_signed(args, kwargs), {}
        try:
            bound = self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.python_function.__name__}(): {error}") from None
        bound.apply_defaults()
        return _converted(bound.args), _converted(bound.kwargs)

    def _as_signed(self, args: Any, kwargs: Any) -> tuple[Any, ...]:
        assert self.input_signature is not None, "only called with a signature"
        bound = self._parameters.bind(*args, **kwargs).args
        specs = self.input_signature
        if len(bound) != len(specs):
            raise TypeError(
                f"{self.python_function.__name__}() takes {len(specs)} arguments by its "
                f"input_signature, got {len(bound)}"
            )
        return tuple(_fitting(value, spec) for value, spec in zip(bound, specs, strict=True))

    def _concrete(self, scope: Scope, args: Any, kwargs: Any) -> ConcreteFunction:
        key = (id(scope.session), _key(args), _key(kwargs))
        with self._lock:
            found = self._traces.get(key)
            if found is None or found._session is not scope.session or not found._is_current():
                self._traces.pop(key, None)
                if len(self._traces) >= _MOST_TRACES:
                    self._traces.pop(next(iter(self._traces)))
                found = self._traces[key] = trace(scope, self.python_function, args, kwargs)
                self._traced += 1
            return found


def _fitting(value: Any, spec: Any) -> Any:
    """Converts an argument to what an `input_signature` says of it."""
    if isinstance(spec, Mapping):
        return {key: _fitting(value[key], spec[key]) for key in spec}
    if isinstance(spec, (list, tuple)):
        return type(spec)(_fitting(*pair) for pair in zip(value, spec, strict=True))
    if not isinstance(value, TensorSpec):
        value = convert_to_tensor(value, None if isinstance(value, Value) else spec.dtype)
    if not spec.is_compatible_with(value):
        raise TypeError(f"Can not cast {TensorSpec.from_tensor(value)} to {spec}")
    return value


class _Method:
    """A method that does not keep its instance."""

    def __init__(self, method: weakref.WeakMethod[Any], plain: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, plain)
        # The instance is bound already.
        self.__signature__ = inspect.signature(method())  # type: ignore[arg-type]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self._method()
        if method is None:
            raise ReferenceError("the object of this method is gone")
        return method(*args, **kwargs)


class ConcreteFunction:
    """A function that was traced for one kind of arguments."""

    def __init__(
        self, graph: Graph, handle: bytes, parameters: Sequence[Tensor], outputs: _Outputs
    ) -> None:
        self._session = graph.session
        self._handle = handle
        self._serial = next(_serials)
        # Everything from outside that it uses lives as long as it does.
        self._captures = list(graph.captures.values())
        self._random = graph.random
        self._outputs = outputs
        self._inputs = [TensorSpec(tuple(p.shape), p.dtype) for p in parameters]
        self.own_gradient = graph.own_gradient

    def __del__(self) -> None:
        self._session.dead.append(self._handle)

    @property
    def inputs(self) -> list[TensorSpec]:
        """What the tensors among the arguments are like."""
        return list(self._inputs)

    @property
    def structured_outputs(self) -> Any:
        """What the results are like, in their structure."""
        specs = [TensorSpec(tuple(shape), dtype) for dtype, shape in self._outputs.specs]
        return self._outputs.arrange(specs)

    @property
    def captured_inputs(self) -> list[Any]:
        """The tensors and variables from outside that it uses."""
        return [value for value in self._captures if isinstance(value, Value)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function with tensors for those that it was traced for."""
        values = _tensors((_converted(args), _converted(kwargs)))
        if len(values) != len(self._inputs):
            raise TypeError(f"{len(self._inputs)} tensors are expected, got {len(values)}")
        for value, spec in zip(values, self._inputs, strict=True):
            if not spec.is_compatible_with(value):
                raise TypeError(f"Can not cast {TensorSpec.from_tensor(value)} to {spec}")
        return self._call(_context.scope(), values)

    def explain(self) -> Plan:
        """Says how the server computes a call: a line for each step, and what it costs.

        Not in TensorFlow. It waits for the server.
        """
        scope = _context.scope()
        same_session(scope.session, (self,))
        body = _wire.handle_field(1, self._handle)
        call = scope.session.call(_wire.EXPLAIN_FUNCTION, body, scope.tail())
        reply = scope.session.wait(call, scope.number).plan
        steps = (
            PlanStep(
                tuple(step.ops),
                tuple(map(_described, step.inputs)),
                tuple(map(_described, step.outputs)),
                step.flops,
                step.workspace_bytes,
            )
            for step in reply.steps
        )
        return Plan(tuple(steps), reply.elided, reply.peak_bytes)

    def _is_current(self) -> bool:
        """Says whether random numbers still come from where they did."""
        return self._random in (None, generation())

    def _call(self, scope: Scope, arguments: Sequence[Value]) -> Any:
        session = scope.session
        same_session(session, (self, *arguments))
        outs = [session.new_handle() for _ in self._outputs.specs]
        body = _wire.handles_field(3, (value._handle for value in arguments))
        body += _wire.handles_field(4, outs) + _wire.handle_field(5, self._handle)
        tail = scope.tail()
        session.append(_wire.entry(_wire.CALL_FUNCTION, body, tail))
        made = [
            Tensor(session, out, dtype, of_shape(shape))
            for out, (dtype, shape) in zip(outs, self._outputs.specs, strict=True)
        ]
        for tape in scope.tapes:
            signature = tape._signature
            used = [*arguments, *(value for value in self._captures if isinstance(value, Value))]
            signature.step(("call", self._serial, *map(signature.number, used)))
            for tensor in made:
                signature.add(tensor)
        return self._outputs.arrange(made)


def _described(spec: Any) -> TensorSpec:
    return TensorSpec(tuple(spec.shape), BY_NUMBER[spec.dtype])


@dataclasses.dataclass(frozen=True)
class PlanStep:
    """One step of a plan.

    Attributes:
        ops: Names of its ops. Several are elementwise ones that go through memory together.
        inputs: What it reads.
        outputs: What it writes.
        flops: About how many arithmetic operations it takes.
        workspace_bytes: Bytes that it needs for itself while it runs.
    """

    ops: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flops: int
    workspace_bytes: int

    def __str__(self) -> str:
        def shapes(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{spec.dtype.name}{list(spec.shape or ())}" for spec in specs)

        return (
            f"{', '.join(self.ops)}({shapes(self.inputs)}) -> {shapes(self.outputs)}, "
            f"{self.flops:,} flops"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the server computes a function: what it rewrote and joined, in order.

    Attributes:
        steps: The steps, at most 1,024.
        elided: How many in the middle are left out.
        peak_bytes: Most bytes that a call takes at one time.
    """

    steps: tuple[PlanStep, ...]
    elided: int
    peak_bytes: int

    def __str__(self) -> str:
        lines = [f"{i:5} {step}" for i, step in enumerate(self.steps)]
        if self.elided:
            lines.insert(len(lines) // 2, f"      ... {self.elided} steps")
        total = len(self.steps) + self.elided
        return "\n".join([f"{total} steps, {self.peak_bytes:,} bytes at the peak", *lines])


class _Outputs:
    """The structure of what a function returned, and what its tensors are like."""

    def __init__(self, structure: Any) -> None:
        self.tensors: list[Tensor] = []
        self._structure = structure
        self._leaves: list[Any] = []
        for leaf in nest.flatten(structure):
            if isinstance(leaf, IndexedSlices):
                parts = (self._add(leaf.values), self._add(leaf.indices))
                self._leaves.append((*parts, leaf.dense_shape))
            elif isinstance(leaf, (Value, int, float, np.ndarray, np.generic)):
                self._leaves.append((self._add(leaf),))
            else:
                self._leaves.append(leaf)
        self.specs: list[Any] = []

    def _add(self, value: Any) -> int:
        self.tensors.append(convert_to_tensor(value))
        return len(self.tensors) - 1

    def arrange(self, made: Sequence[Any]) -> Any:
        """Returns the structure with these in the places of its tensors."""
        leaves = []
        for leaf in self._leaves:
            match leaf:
                case (int() as place,):
                    leaves.append(made[place])
                case (int() as values, int() as indices, shape):
                    leaves.append(IndexedSlices(made[values], made[indices], shape))
                case _:
                    leaves.append(leaf)
        return nest.pack_sequence_as(self._structure, leaves)


def trace(scope: Scope, func: Callable[..., Any], args: Any, kwargs: Any) -> ConcreteFunction:
    """Lets a function show the server what it does. Within another one it ends with that."""
    session = scope.session
    flat = nest.flatten((args, kwargs))
    graph = Graph(scope)
    handle = session.new_handle()
    with graph.shown(handle) as begin:
        parameters = []
        shown = []
        for value in flat:
            if isinstance(value, (Tensor, TensorSpec)):
                form = of_shape(_extents(value))
                value = Tensor(session, session.new_handle(), value.dtype, form)
                parameters.append(value)
            shown.append(value)
        begin(parameters)
        their_args, their_kwargs = nest.pack_sequence_as((args, kwargs), shown)
        outputs = _Outputs(func(*their_args, **their_kwargs))
        reply = graph.finish(outputs.tensors)
    outputs.specs = [(BY_NUMBER[spec.dtype], TensorShape(spec.shape)) for spec in reply.results]
    outputs.tensors = []
    return ConcreteFunction(graph, handle, parameters, outputs)


def _extents(value: Any) -> tuple[int, ...]:
    """Returns the shape of a tensor, or of what is described, of which every extent is known."""
    shape = value.shape
    if shape is None or None in shape:
        raise ValueError(f"a function is traced for shapes that are known, and not for {value}")
    return tuple(shape)


def _tensors(structure: Any) -> list[Value]:
    return [value for value in nest.flatten(structure) if isinstance(value, Tensor)]


def _converted(structure: Any) -> Any:
    """Makes tensors of arrays; Python's numbers stay, since they may steer the function."""

    def convert(value: Any) -> Any:
        is_array = isinstance(value, (np.ndarray, np.generic))
        return convert_to_tensor(value) if is_array else value

    return nest.map_structure(convert, structure)


class _Identity:
    """An object as a part of a key: itself and nothing that equals it, as long as it is there."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._there: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._there = lambda: value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Identity)
            and self._id == other._id
            and self._there() is not None
            and self._there() is other._there()
        )

    def __hash__(self) -> int:
        return self._id


def _key(value: Any) -> Hashable:
    """Returns what of an argument a trace depends on."""
    if isinstance(value, (Tensor, TensorSpec)):
        return ("tensor", value.dtype.number, tuple(value.shape or ()))
    if isinstance(value, Variable):
        return ("variable", value._serial)
    if isinstance(value, Mapping):
        items = ((key, _key(value[key])) for key in sorted(value))
        return (type(value), *items)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key, value))
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        # True == 1 == 1.0, and 0.0 == -0.0.
        return (type(value), repr(value))
    return _Identity(value)


__all__ = [
    "ConcreteFunction",
    "Function",
    "errors",
    "function",
    "functions_run_eagerly",
    "run_functions_eagerly",
]
