"""Tensors: values on the server, with TensorFlow's operators (`tf.Tensor`, `tf.constant`)."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradtape import _context, _execute, _wire, dtypes, errors
from gradtape._execute import emit, same_dtype
from gradtape._form import Form, of_shape
from gradtape._indexing import strided_slice
from gradtape._session import Session
from gradtape._signature import new_serial
from gradtape.dtypes import DType
from gradtape.tensor_shape import TensorShape

# Converted operands of at most this many bytes are kept on the server and used again.
_CACHED_BYTES = 4_096
_MOST_CACHED = 1_024


def _binary(name: str, result: DType | None = None) -> Callable[[Any, Any], Tensor]:
    """Makes an operator of an op; its result has the operands' dtype, unless another is given."""
    template = _wire.template(name, {}, 2)

    def operator(x: Value, y: Any) -> Tensor:
        if not isinstance(y, Value):
            y = convert(y, x._dtype)
        if x._dtype is not y._dtype:
            same_dtype(name, x, y)
        return emit(template, (x, y), result or x._dtype)

    return operator


def _reflected(name: str) -> Callable[[Any, Any], Tensor]:
    """Makes the operator for an operand on the left that has none of its own."""
    template = _wire.template(name, {}, 2)

    def operator(y: Value, x: Any) -> Tensor:
        x = convert(x, y._dtype)
        if x._dtype is not y._dtype:
            same_dtype(name, x, y)
        return emit(template, (x, y), x._dtype)

    return operator


def _compare(name: str) -> Callable[[Any, Any], Tensor]:
    return _binary(name, dtypes.bool)


_equal, _not_equal = _compare("equal"), _compare("not_equal")


class Value:
    """What tensors and variables have in common: a handle, a dtype and operators."""

    __slots__ = ("__weakref__", "_dtype", "_form", "_handle", "_serial", "_session")

    _dtype: DType
    _handle: bytes
    _serial: int
    _session: Session
    _form: Form
    # Of a variable, whether tapes watch it by themselves.
    _trainable: builtins.bool | None = None

    # NumPy arrays on the left leave the operators to us.
    __array_priority__ = 100
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __del__(self) -> None:
        self._session.dead.append(self._handle)

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self._dtype

    @property
    def _shape(self) -> TensorShape | None:
        """The extents where this client knows them."""
        return self._form.shape

    @property
    def shape(self) -> TensorShape:
        """The extents. Asks the server where this client cannot know them."""
        shape = self._form.shape
        if shape is None:
            scope = _context.scope()
            body = _wire.handle_field(1, self._handle)
            call = self._session.call(_wire.DESCRIBE, body, scope.tail())
            shape = TensorShape(self._session.wait(call, scope.number).spec.shape)
            self._form.shape = shape
        return shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def get_shape(self) -> TensorShape:
        """Returns `shape`."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Raises ValueError unless this is the shape, in which None stands for any extent."""
        if shape is not None and not self.shape.is_compatible_with(shape):
            raise ValueError(f"Tensor's shape {self.shape} is not compatible with {shape}")

    def _fetch(self) -> npt.NDArray[Any]:
        session = self._session
        scope = _context.scope()
        if scope.graph is not None and (self._trainable is not None or self._is_symbolic):
            raise NotImplementedError(
                "numpy() is only available when eager execution is enabled: within a tf.function "
                "this value has no elements yet. Return it, or call "
                "tf.config.run_functions_eagerly(True)."
            )
        tail = scope.tail()
        body = _wire.handle_field(1, self._handle)
        shape, fetched = self._form.shape, None
        if shape is None:
            # Both at once: where the value turns out to be large, the answer to the second is lost.
            described = session.call(_wire.DESCRIBE, body, tail)
            fetched = session.call(_wire.FETCH, body, tail)
            shape = TensorShape(session.wait(described, scope.number).spec.shape)
            self._form.shape = shape
        size = math.prod(shape) * self._dtype.size
        if size <= session.inline_bytes:
            fetched = fetched or session.call(_wire.FETCH, body, tail)
            data: bytes | bytearray = session.wait(fetched, scope.number).tensor.data
        else:
            session.sync(scope.number, tail)
            data = session.download(self._handle, size)
        return np.frombuffer(data, self._dtype.as_numpy_dtype).reshape(tuple(shape))

    @property
    def _is_symbolic(self) -> builtins.bool:
        """Whether it is computed when the function is called whose body is being shown."""
        graph = _context.scope().graph
        return graph is not None and graph.is_symbolic(self)

    def numpy(self) -> Any:
        """Returns the elements as a NumPy array, or as a NumPy scalar if there is no dimension."""
        array = self._fetch()
        return array.copy() if array.ndim else array[()]

    def ref(self) -> Reference:
        """Returns a hashable reference, for use as a key."""
        return Reference(self)

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._fetch(), dtype=dtype)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """Hands a copy of the elements to a library that takes DLPack."""
        return np.array(self._fetch()).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Says that the copy is in this processor's memory."""
        return (1, 0)

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __index__(self) -> int:
        if not self._dtype.is_integer:
            raise TypeError("only integer scalar tensors can be converted to an index")
        return int(self._scalar())

    def __bool__(self) -> builtins.bool:
        if self._is_symbolic or (self._trainable is not None and _context.scope().graph):
            raise errors.OperatorNotAllowedInGraphError(
                "Using a symbolic `tf.Tensor` as a Python `bool` is not allowed: within a "
                "tf.function its elements are not known when Python decides. Use `tf.where`, or "
                "leave out the decorator."
            )
        return builtins.bool(self._scalar())

    def __format__(self, spec: str) -> str:
        return format(self.numpy() if self.ndim == 0 else self, spec) if spec else str(self)

    def _scalar(self) -> Any:
        array = self._fetch()
        if array.size != 1:
            raise TypeError("Only tensors with one element can be converted to Python scalars")
        return array.reshape(())[()]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("Scalar tensor has no `len()`")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("Cannot iterate over a scalar tensor")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, (Value, np.ndarray)) and key.dtype == np.bool_:
            # Imported late: it uses this module.
            from gradtape._selection import boolean_mask

            return boolean_mask(self, key)
        return strided_slice(self, key if isinstance(key, tuple) else (key,))

    def __neg__(self) -> Tensor:
        return emit(_NEGATIVE, (self,), self._dtype)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Tensor:
        return emit(_ABS, (self,), self._dtype)

    def __invert__(self) -> Tensor:
        return emit(_wire.template("logical_not", {}, 1), (self,), dtypes.bool)

    __add__ = _binary("add")
    __radd__ = _reflected("add")
    __sub__ = _binary("subtract")
    __rsub__ = _reflected("subtract")
    __mul__ = _binary("multiply")
    __rmul__ = _reflected("multiply")

    def __truediv__(self, other: Any) -> Tensor:
        return true_divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return true_divide(convert(other, self._dtype), self)

    __floordiv__ = _binary("floordiv")
    __rfloordiv__ = _reflected("floordiv")
    __mod__ = _binary("floormod")
    __rmod__ = _reflected("floormod")
    __pow__ = _binary("pow")
    __rpow__ = _reflected("pow")
    __matmul__ = _binary("matmul")
    __rmatmul__ = _reflected("matmul")
    __and__ = _binary("logical_and")
    __rand__ = __and__
    __or__ = _binary("logical_or")
    __ror__ = __or__
    __xor__ = _compare("not_equal")
    __rxor__ = __xor__
    __lt__ = _compare("less")
    __le__ = _compare("less_equal")
    __gt__ = _compare("greater")
    __ge__ = _compare("greater_equal")

    def __eq__(self, other: Any) -> Any:
        return False if other is None else _equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return True if other is None else _not_equal(self, other)


class Tensor(Value):
    """A value on the server (`tf.Tensor`). It never changes."""

    __slots__ = ("_elements", "_keras_mask", "_place")

    # Which time steps count, where a layer of Keras says so.
    _keras_mask: Any
    # Of a slice of a variable, which one it is.
    _place: Any

    def __init__(self, session: Session, handle: bytes, dtype: DType, form: Form) -> None:
        self._session = session
        self._handle = handle
        self._serial = new_serial()
        self._dtype = dtype
        self._form = form
        self._elements: npt.NDArray[Any] | None = None

    def _fetch(self) -> npt.NDArray[Any]:
        if self._elements is None:
            self._elements = super()._fetch()
        return self._elements

    def __getitem__(self, key: Any) -> Tensor:
        part = super().__getitem__(key)
        if self._elements is not None and self._is_symbolic:
            # An extent of `tf.shape` is known in the body of a function, too.
            part._elements = np.asarray(self._elements[key])
        return part

    def __repr__(self) -> str:
        if self._is_symbolic:
            return f"<tf.Tensor: shape={self.shape}, dtype={self._dtype.name}, symbolic>"
        array = self._fetch()
        text = repr(array) if array.ndim else str(array[()])
        return f"<tf.Tensor: shape={self.shape}, dtype={self._dtype.name}, numpy={text}>"

    def __str__(self) -> str:
        if self._is_symbolic:
            return f"tf.Tensor(symbolic, shape={self.shape}, dtype={self._dtype.name})"
        array = self._fetch()
        text = str(array if array.ndim else array[()])
        return f"tf.Tensor({text}, shape={self.shape}, dtype={self._dtype.name})"


class Reference:
    """A tensor or variable as a key of a dictionary."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def deref(self) -> Value:
        """Returns the tensor or variable."""
        return self._value

    def __eq__(self, other: object) -> builtins.bool:
        return isinstance(other, Reference) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str = "Const") -> Tensor:
    """Makes a tensor of a number, a nested list or a NumPy array.

    Args:
        value: The elements. Python floats become float32, integers int32; NumPy keeps its dtype.
        dtype: Element type, if another is wanted.
        shape: Shape, if another is wanted; one element fills it.
        name: Ignored.
    """
    array, dtype = to_numpy(value, None if dtype is None else dtypes.as_dtype(dtype))
    if shape is not None:
        shape = tuple(shape)
        array = np.broadcast_to(array, shape) if array.size == 1 else array.reshape(shape)
    return upload(array, dtype)


def convert_to_tensor(
    value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None
) -> Tensor:
    """Returns `value` as a tensor: a tensor is returned as it is, a variable is read.

    Args:
        value: Tensor, variable, number, nested list of them, or NumPy array.
        dtype: Element type. A tensor of another one is an error.
        dtype_hint: Element type to take where `value` leaves the choice.
        name: Ignored.
    """
    dtype = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(value, Value):
        if dtype is not None and dtype is not value._dtype:
            raise ValueError(
                f"Tensor conversion requested dtype {dtype.name} for Tensor with dtype "
                f"{value._dtype.name}: {value!r}"
            )
        return value if isinstance(value, Tensor) else value.read_value()  # type: ignore[attr-defined]
    if hasattr(value, "_as_tensor"):
        return value._as_tensor()
    if isinstance(value, (list, tuple)) and any(isinstance(v, Value) for v in _leaves(value)):
        return _stack(value, dtype)
    if dtype is None and dtype_hint is not None:
        try:
            return constant(value, dtype_hint)
        except (TypeError, ValueError):
            pass
    return constant(value, dtype)


def convert(value: Any, dtype: DType | None) -> Tensor:
    """Converts an operand that is no tensor; it adopts `dtype`. Small ones are made only once."""
    kind = type(value)
    if kind is float or kind is int:
        if not value and math.copysign(1.0, value) < 0.0:
            return constant(value, dtype)
        key: Any = (kind, value, dtype)
    elif kind is np.ndarray and value.nbytes <= _CACHED_BYTES:
        key = (value.dtype, value.shape, value.tobytes(), dtype)
    elif hasattr(value, "_as_tensor"):
        return value._as_tensor()
    elif isinstance(value, Value):
        return value  # type: ignore[return-value]
    else:
        return convert_to_tensor(value, dtype)
    scope = _context.scope()
    session, graph = scope.session, scope.graph
    found = session.constants.get(key)
    if found is None and graph is not None:
        found = graph.constants.get(key)
    if found is None:
        array, dtype = to_numpy(value, dtype)
        found = upload(array, dtype)
        # What the body of a function makes ends with it.
        constants = session.constants if graph is None else graph.constants
        if len(constants) >= _MOST_CACHED:
            constants.pop(next(iter(constants)), None)
        constants[key] = found
    return found


def to_numpy(value: Any, dtype: DType | None) -> tuple[npt.NDArray[Any], DType]:
    """Converts to a NumPy array by TensorFlow's rules."""
    array = np.asarray(value)
    if dtype is None:
        if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
            dtype = dtypes.as_dtype(array.dtype)
        elif dtypes.is_floating(array.dtype) or not array.size:
            dtype = dtypes.float32
        elif array.dtype.kind == "i":
            dtype = dtypes.int32
        else:
            dtype = dtypes.as_dtype(array.dtype)
    elif array.size and not isinstance(value, np.ndarray) and array.dtype.kind != "O":
        cut = dtypes.is_floating(array.dtype) and not dtype.is_floating
        if cut or dtype.is_bool != (array.dtype.kind == "b"):
            raise TypeError(
                f"Cannot convert {value!r} to a tensor of dtype {dtype.name}: it is {array.dtype}"
            )
    if array.dtype.kind not in "fiub" and not dtypes.is_floating(array.dtype):
        raise ValueError(
            f"Attempt to convert a value ({value!r}) of type {type(value)} to a tensor"
        )
    if dtype.is_integer and array.dtype.kind in "iu" and array.size:
        low, high = array.min(), array.max()
        if low < dtype.min or high > dtype.max:
            raise ValueError(f"{value!r} does not fit {dtype.name}")
    return array.astype(dtype.as_numpy_dtype, copy=False), dtype


def upload(array: npt.NDArray[Any], dtype: DType) -> Tensor:
    """Sends an array to the server."""
    scope = _context.scope()
    session = scope.session
    handle = session.new_handle()
    head = _wire.spec(dtype, array.shape)
    body = _wire.handle_field(1, handle)
    if array.nbytes <= session.inline_bytes:
        body += _wire.bytes_field(2, head + _wire.bytes_field(3, array.tobytes()))
    else:
        elements = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        body += _wire.number_field(3, session.upload(head, elements))
    entry = _wire.entry(_wire.CONSTANT, body, scope.tail())
    if len(entry) > 1_024:
        session.append_large(entry)
    else:
        session.append(entry)
    return Tensor(session, handle, dtype, of_shape(array.shape))


def true_divide(x: Any, y: Any) -> Tensor:
    """Divides; integers as float64."""
    x, y = _execute.as_values((x, y))
    same_dtype("RealDiv", x, y)
    if not x._dtype.is_floating:
        x, y = cast(x, dtypes.float64), cast(y, dtypes.float64)
    return emit(_DIVIDE, (x, y), x._dtype)


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """Converts the elements to another dtype."""
    dtype = dtypes.as_dtype(dtype)
    x = x if isinstance(x, Value) else convert_to_tensor(x)
    if x._dtype is dtype:
        return convert_to_tensor(x)
    return emit(_wire.template("cast", {"dtype": dtype}, 1), (x,), dtype)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _stack(value: Sequence[Any], dtype: DType | None) -> Tensor:
    first = next(v for v in _leaves(value) if isinstance(v, Value))
    items = [convert_to_tensor(item, dtype or first._dtype) for item in value]
    return emit(_wire.template("stack", {"axis": 0}, len(items)), items, items[0]._dtype)


_DIVIDE = _wire.template("divide", {}, 2)
_NEGATIVE = _wire.template("negative", {}, 1)
_ABS = _wire.template("abs", {}, 1)

_execute.new_tensor = Tensor
_execute.convert = convert
_execute.value_types = (Value,)
