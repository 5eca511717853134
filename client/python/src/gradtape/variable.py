"""Variables: named, mutable tensors on the server (`tf.Variable`)."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from gradtape import _context, _ops, _wire, dtypes
from gradtape._execute import command, same_session, send
from gradtape._indexing import window
from gradtape._signature import new_serial
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor

_ASSIGN = {
    mode: _wire.Template(_wire.ASSIGN_VARIABLE, (1, 2, _wire.number_field(3, mode)))
    for mode in (_wire.REPLACE, _wire.ADD, _wire.SUBTRACT)
}


class Variable(Value):
    """A tensor that changes by assignment. Tapes watch it when it is read.

    Args:
        initial_value: First value, or a function that returns it; fixes dtype and shape.
        trainable: Whether tapes watch it by themselves.
        validate_shape: Ignored: the shape is always known.
        caching_device: Ignored.
        name: Name for people and checkpoints.
        variable_def: Ignored.
        dtype: Element type, if another than the value's is wanted.
        import_scope: Ignored.
        constraint: A function of the value whose result replaces it after each step of an
            optimizer.
        synchronization: Ignored.
        aggregation: Ignored.
        shape: Shape. It must be the value's.
    """

    __slots__ = ("_trainable", "constraint", "name", "path", "regularizer")

    def __init__(
        self,
        initial_value: Any = None,
        trainable: builtins.bool | None = None,
        validate_shape: builtins.bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        import_scope: Any = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        scope = _context.scope()
        self._session = session = scope.session
        self._handle = session.new_handle()
        _context.creating("the creation of variables")
        if initial_value is None:
            raise ValueError("The `initial_value` arg to `tf.Variable` must be given.")
        if callable(initial_value):
            initial_value = initial_value()
        if not isinstance(initial_value, Value):
            initial_value = constant(initial_value, dtype)
        elif dtype is not None:
            initial_value = convert_to_tensor(initial_value, dtype)
        if shape is not None and tuple(shape) != tuple(initial_value.shape):
            raise ValueError(
                f"In this `tf.Variable` creation, the initial value's shape "
                f"({initial_value.shape}) is not compatible with the explicitly supplied `shape` "
                f"argument ({tuple(shape)})."
            )
        self._dtype = initial_value._dtype
        self._form = initial_value._form
        self._trainable = trainable is not False
        self._serial = new_serial()
        name = name or "Variable"
        self.name = f"{name}:0"
        # What Keras' variables have: where they are in the model, and who looks after their value.
        self.path = name
        self.constraint = constraint
        self.regularizer: Any = None
        body = (
            _wire.handle_field(1, self._handle)
            + _wire.bytes_field(2, name.encode())
            + _wire.handle_field(3, initial_value._handle)
            + (b"" if self._trainable else b"\x20\x00")
        )
        for tape in scope.tapes:
            number = tape._signature.number(initial_value)
            tape._signature.step(("create variable", number, self._dtype, self._trainable))
            tape._signature.add(self)
        command(_wire.CREATE_VARIABLE, body, scope)
        session.variables[self._handle] = self

    @property
    def trainable(self) -> builtins.bool:
        """Whether tapes watch it by themselves."""
        return builtins.bool(self._trainable)

    def read_value(self) -> Tensor:
        """Returns the value of now. Each read is a tensor of its own."""
        scope = _context.scope()
        same_session(scope.session, (self,))
        out = self._session.new_handle()
        body = _wire.handle_field(1, self._handle) + _wire.handle_field(2, out)
        command(_wire.READ_VARIABLE, body, scope)
        result = Tensor(self._session, out, self._dtype, self._form)
        for tape in scope.tapes:
            tape._signature.step(("read", tape._signature.number(self)))
            tape._signature.add(result)
        return result

    def value(self) -> Tensor:
        """Returns the value of now."""
        return self.read_value()

    def assign(
        self,
        value: Any,
        use_locking: builtins.bool = False,
        name: str | None = None,
        read_value: builtins.bool = True,
    ) -> Variable:
        """Replaces the value and returns the variable. Not differentiable."""
        return self._assign(_wire.REPLACE, value)

    def assign_add(
        self,
        delta: Any,
        use_locking: builtins.bool = False,
        name: str | None = None,
        read_value: builtins.bool = True,
    ) -> Variable:
        """Adds `delta` and returns the variable. Not differentiable."""
        return self._assign(_wire.ADD, delta)

    def assign_sub(
        self,
        delta: Any,
        use_locking: builtins.bool = False,
        name: str | None = None,
        read_value: builtins.bool = True,
    ) -> Variable:
        """Subtracts `delta` and returns the variable. Not differentiable."""
        return self._assign(_wire.SUBTRACT, delta)

    def scatter_add(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Adds rows; of duplicates, all."""
        return self._scatter(_wire.ADD, sparse_delta)

    def scatter_sub(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Subtracts rows; of duplicates, all."""
        return self._scatter(_wire.SUBTRACT, sparse_delta)

    def scatter_update(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Replaces rows; of duplicates, the last one wins."""
        return self._scatter(_wire.REPLACE, sparse_delta)

    def scatter_max(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Replaces elements of rows by larger ones."""
        return self._combine(_ops.tensor_scatter_nd_max, sparse_delta)

    def scatter_min(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Replaces elements of rows by smaller ones."""
        return self._combine(_ops.tensor_scatter_nd_min, sparse_delta)

    def scatter_mul(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Multiplies rows; by duplicates, each after the other."""
        return self.assign(_ops.multiply(self, self._product(sparse_delta)))

    def scatter_div(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Divides rows; integers are rounded towards zero."""
        divide = _ops.divide if self._dtype.is_floating else _ops.truncatediv
        return self.assign(divide(self, self._product(sparse_delta)))

    def batch_scatter_update(self, sparse_delta: IndexedSlices, **_: Any) -> Variable:
        """Replaces rows of each element of a batch.

        The indices have the batch's axes and one more, which counts within its element.
        """
        indices = np.asarray(sparse_delta.indices)
        batch = np.indices(indices.shape)[:-1]
        tuples = np.stack([*batch, indices], axis=-1)
        return self.scatter_nd_update(tuples, sparse_delta.values)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Adds slices where tuples of positions say."""
        return self.assign(_ops.tensor_scatter_nd_add(self, _indices(indices), updates))

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Subtracts slices where tuples of positions say."""
        return self.assign(_ops.tensor_scatter_nd_sub(self, _indices(indices), updates))

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Replaces slices where tuples of positions say."""
        return self.assign(_ops.tensor_scatter_nd_update(self, _indices(indices), updates))

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """Picks elements or slices by tuples of positions."""
        return _ops.gather_nd(self, _indices(indices))  # type: ignore[no-any-return]

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """Picks rows by their numbers."""
        return _ops.gather(self, _indices(indices))  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> VariableSlice:
        """Takes a part, to which can be assigned too, unless truth values choose it."""
        result = super().__getitem__(key)
        if isinstance(key, (Value, np.ndarray)) and key.dtype == np.bool_:
            return result  # type: ignore[return-value]
        return self._sliced(result, window(key if isinstance(key, tuple) else (key,)))

    def _sliced(self, result: Tensor, attributes: dict[str, Any]) -> VariableSlice:
        """Lets a slice be assigned to."""
        result.__class__ = VariableSlice
        result._place = (self, attributes)
        return result  # type: ignore[return-value]

    def _combine(self, op: Any, rows: IndexedSlices) -> Variable:
        indices = _ops.expand_dims(_indices(rows.indices), axis=-1)
        return self.assign(op(self, indices, convert(rows.values, self._dtype)))

    def _product(self, rows: IndexedSlices) -> Tensor:
        """The product of the rows that are for the same place, and 1 where there is none."""
        values = convert(rows.values, self._dtype)
        return _ops.unsorted_segment_prod(  # type: ignore[no-any-return]
            values, _indices(rows.indices), num_segments=self.shape[0]
        )

    def _assign(self, mode: int, value: Any) -> Variable:
        if not isinstance(value, Value):
            value = convert(value, self._dtype)
        if value._dtype is not self._dtype:
            raise ValueError(
                f"Tensor conversion requested dtype {self._dtype.name} for Tensor with dtype "
                f"{value._dtype.name}"
            )
        shape, given = self._form.shape, value._form.shape
        if shape is not given and None not in (shape, given) and shape != given:
            raise ValueError(
                f"Cannot assign value to variable '{self.name}': Shape mismatch. The variable "
                f"shape {shape}, and the assigned value shape {given} are incompatible."
            )
        scope = _context.scope()
        same_session(scope.session, (self, value))
        for tape in scope.tapes:
            signature = tape._signature
            signature.step(("assign", mode, signature.number(self), signature.number(value)))
        send(_ASSIGN[mode], (self._handle, value._handle), scope)
        return self

    def _scatter(self, mode: int, rows: IndexedSlices) -> Variable:
        indices = convert(rows.indices, dtypes.int64)
        values = convert(rows.values, self._dtype)
        scope = _context.scope()
        same_session(scope.session, (self, indices, values))
        for tape in scope.tapes:
            numbers = map(tape._signature.number, (self, indices, values))
            tape._signature.step(("scatter", mode, *numbers))
        body = b"".join(
            _wire.handle_field(field, value._handle)
            for field, value in enumerate((self, indices, values), 1)
        )
        command(_wire.SCATTER_VARIABLE, body + _wire.number_field(4, mode), scope)
        return self

    def __repr__(self) -> str:
        array = self._fetch()
        text = repr(array) if array.ndim else str(array[()])
        return (
            f"<tf.Variable '{self.name}' shape={self.shape} dtype={self._dtype.name}, numpy={text}>"
        )


class VariableSlice(Tensor):
    """What `variable[...]` gives: a tensor whose place in the variable can be assigned to."""

    # As those of Tensor, since a tensor becomes one of these.
    __slots__ = ()

    def assign(
        self,
        value: Any,
        use_locking: builtins.bool = False,
        name: str | None = None,
        read_value: builtins.bool = True,
    ) -> Variable:
        """Replaces this part of the variable, and returns the variable. Not differentiable."""
        variable, attributes = self._place
        value = convert(value, variable._dtype)
        if value._shape is None or value._shape != self.shape:
            value = _ops.broadcast_to(value, shape=self.shape)
        updated = _ops.tensor_strided_slice_update(variable, value, **attributes)
        return variable.assign(updated)  # type: ignore[no-any-return]


def _indices(value: Any) -> Value:
    return value if isinstance(value, Value) else convert(value, dtypes.int64)
