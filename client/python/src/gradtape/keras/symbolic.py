"""Symbolic tensors: what `keras.Input` returns, and what layers make of it.

A symbolic tensor has examples: tensors without elements, since their batch is empty. Calling a
layer with symbolic tensors calls it with their examples, which makes its weights and shows what
comes out, and remembers the call as a `Node`. A model runs the nodes again with real values.
An extent that differs between two examples, or is 0 as that of the batch, is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import gradtape as tf
from gradtape import nest
from gradtape.tensor import Value

# What stands in two examples for an extent that is not known, apart from the batch's, which is 0.
_SOME_EXTENTS = (16, 24)


class Node:
    """A call that is to be made again: a function, its arguments, and what came out."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.outputs: Any = None

    @property
    def inputs(self) -> Any:
        """The symbolic tensors among the arguments; one by itself."""
        found = self.sources()
        return found[0] if len(found) == 1 else found

    def sources(self) -> list[SymbolicTensor]:
        """Returns the symbolic tensors among the arguments."""
        flat = nest.flatten((self.args, self.kwargs))
        return [leaf for leaf in flat if isinstance(leaf, SymbolicTensor)]

    def run(
        self, replace: Callable[[SymbolicTensor], Any], function: Callable[..., Any] | None = None
    ) -> Any:
        """Calls the function with what `replace` returns for symbolic arguments.

        Args:
            replace: Takes a symbolic argument.
            function: What is called; the node's function by default.
        """

        def real(leaf: Any) -> Any:
            return replace(leaf) if isinstance(leaf, SymbolicTensor) else leaf

        args = [nest.map_structure(real, arg) for arg in self.args]
        kwargs = {name: nest.map_structure(real, arg) for name, arg in self.kwargs.items()}
        function = function or self.function
        if is_symbolic(args, kwargs) and not hasattr(function, "build"):
            return record(function, args, kwargs)
        return function(*args, **kwargs)


class SymbolicTensor:
    """Stands for a tensor that a functional model is given or computes (`KerasTensor`).

    Attributes:
        examples: One tensor of the dtype without elements, or two if extents are not known.
        shape: The shape; extents that are not known are None.
        node: The call that makes it; None for an input.
    """

    __array_ufunc__ = None

    def __init__(self, examples: Sequence[Value], node: Node | None, name: str) -> None:
        self.examples = examples
        extents = zip(*(example.shape for example in examples), strict=True)
        self.shape = tuple(a[0] if all(b == a[0] != 0 for b in a) else None for a in extents)
        self.node = node
        self.name = name
        # The `InputLayer` of an input.
        self.layer: Any = None

    @property
    def dtype(self) -> tf.DType:
        """The type of the elements."""
        return self.examples[0].dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __iter__(self) -> Any:
        raise TypeError("Iterating over a symbolic tensor is not supported.")

    def __bool__(self) -> bool:
        raise TypeError("A symbolic tensor cannot be used as a Python boolean: it has no value.")

    def __repr__(self) -> str:
        return (
            f"<KerasTensor shape={self.shape}, dtype={self.dtype.name}, sparse=False, "
            f"name={self.name}>"
        )


class _Operator:
    """A call of an operator; each is an object of its own, as a layer is."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.name = operator.strip("_")

    def __call__(self, x: Any, *others: Any) -> Any:
        if not isinstance(x, Value):
            # The other operand is the tensor that an array or a number meets.
            x = tf.convert_to_tensor(x, dtype_hint=others[0].dtype if others else None)
        return getattr(x, self.operator)(*others)


def _operator(name: str) -> Callable[..., SymbolicTensor]:
    def apply(self: SymbolicTensor, *others: Any) -> SymbolicTensor:
        return record(_Operator(name), (self, *others), {})

    return apply


for _name in (
    "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv",
    "mod", "rmod", "pow", "rpow", "matmul", "rmatmul", "neg", "abs", "lt", "le", "gt", "ge",
    "and", "or", "xor", "invert", "getitem",
):  # fmt: skip
    setattr(SymbolicTensor, f"__{_name}__", _operator(f"__{_name}__"))


def new_input(shape: Sequence[int | None], dtype: Any, name: str) -> SymbolicTensor:
    """Returns the symbolic tensor for an input whose batch is of any size.

    Args:
        shape: Shape of one example; extents that are not known are None.
        dtype: Element type.
        name: Name for people.
    """
    examples = [
        tf.zeros((0, *(some if extent is None else int(extent) for extent in shape)), dtype)
        for some in _SOME_EXTENTS[: 2 if None in shape else 1]
    ]
    return SymbolicTensor(examples, None, name)


def is_symbolic(*structures: Any) -> bool:
    """Says whether there are symbolic tensors in the arguments of a call."""
    return any(isinstance(leaf, SymbolicTensor) for leaf in _leaves(structures))


def record(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Calls a layer or function with examples, and returns symbolic outputs.

    Args:
        function: The layer or function.
        args: Its arguments, with symbolic tensors among them.
        kwargs: Its arguments by name.
    """
    node = Node(function, args, kwargs)
    count = max(len(source.examples) for source in node.sources())
    runs = [node.run(lambda leaf: leaf.examples[i % len(leaf.examples)]) for i in range(count)]  # noqa: B023
    name = getattr(function, "name", "operation")
    node.outputs = nest.map_structure(lambda *each: SymbolicTensor(each, node, name), *runs)
    if hasattr(function, "build"):
        function._node = node
    return node.outputs


def node_of(layer: Any) -> Node:
    """Returns the last symbolic call of a layer."""
    node = getattr(layer, "_node", None)
    if node is None:
        raise AttributeError(f"The layer {layer.name} has never been called with symbolic inputs.")
    return node  # type: ignore[no-any-return]


def shapes_of(values: Any) -> Any:
    """Returns the shapes of the tensors in a nest; the extent of the batch is None."""
    if isinstance(values, (list, tuple)):
        return [shapes_of(value) for value in values]
    if isinstance(values, dict):
        return {key: shapes_of(value) for key, value in values.items()}
    shape = tuple(getattr(values, "shape", ()))
    return (None, *(extent or None for extent in shape[1:])) if shape else ()


def inputs_of(shapes: Any) -> Any:
    """Returns symbolic tensors for inputs of a shape, or of those in a list or dictionary."""
    if isinstance(shapes, dict):
        return {name: inputs_of(shape) for name, shape in shapes.items()}
    if shapes and isinstance(shapes[0], (list, tuple)):
        return [inputs_of(shape) for shape in shapes]
    return new_input(shapes[1:], None, "input")


def sorted_nodes(outputs: Any, inputs: Collection[int]) -> list[Node]:
    """Returns the nodes that make `outputs`, each after those that it needs.

    Args:
        outputs: Nest of symbolic tensors.
        inputs: The `id`s of those that are given and need no node.
    """
    order: list[Node] = []
    seen: set[int] = set()

    def makers(tensors: list[SymbolicTensor]) -> list[tuple[Node, bool]]:
        return [(x.node, False) for x in reversed(tensors) if x.node and id(x) not in inputs]

    pending = makers(nest.flatten(outputs))
    while pending:
        node, done = pending.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            pending += [(node, True), *makers(node.sources())]
    return order


def _leaves(structure: Any) -> Any:
    if isinstance(structure, (list, tuple)):
        for item in structure:
            yield from _leaves(item)
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from _leaves(item)
    else:
        yield structure
