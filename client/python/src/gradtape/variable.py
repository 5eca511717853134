"""Variables: named, mutable tensors on the server (`tf.Variable`)."""

from __future__ import annotations

import builtins
from typing import Any

from gradtape import _context, _wire, dtypes
from gradtape._execute import command, same_session
from gradtape._signature import new_serial
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor


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

    def _assign(self, mode: int, value: Any) -> Variable:
        if not isinstance(value, Value):
            value = convert(value, self._dtype)
        if value._dtype is not self._dtype:
            raise ValueError(
                f"Tensor conversion requested dtype {self._dtype.name} for Tensor with dtype "
                f"{value._dtype.name}"
            )
        if (
            value._shape is not None
            and self._shape is not None
            and tuple(value._shape) != tuple(self._shape)
        ):
            raise ValueError(
                f"Cannot assign value to variable '{self.name}': Shape mismatch. The variable "
                f"shape {self._shape}, and the assigned value shape {value._shape} are "
                f"incompatible."
            )
        scope = _context.scope()
        same_session(scope.session, (self, value))
        for tape in scope.tapes:
            signature = tape._signature
            signature.step(("assign", mode, signature.number(self), signature.number(value)))
        body = b"\x08" + self._handle + b"\x10" + value._handle + b"\x18" + bytes((mode,))
        command(_wire.ASSIGN_VARIABLE, body, scope)
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
