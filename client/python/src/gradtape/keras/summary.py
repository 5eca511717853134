"""`Model.summary`: the layers, their outputs and their weights as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from gradtape import nest
from gradtape.keras.layers.base import Layer


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> None:
    """Prints the table.

    Args:
        model: The model.
        line_length: Largest length of a line.
        print_fn: What prints a line; `print` by default.
        expand_nested: Whether layers in layers have lines of their own.
        show_trainable: Whether a column says which layers are trained.
    """
    heads = ["Layer (type)", "Output Shape", "Param #"] + ["Trainable"] * show_trainable
    rows = [
        [f"{'  ' * depth}{layer.name} ({type(layer).__name__})", _shape(layer),
         f"{layer.count_params():,}", *(["Y" if layer.trainable else "N"] * show_trainable)]
        for depth, layer in _lines(model, expand_nested)
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if line_length is not None:
        widths[0] = max(12, min(widths[0], line_length - sum(widths[1:]) - 3 * len(heads) - 1))

    def line(cells: list[str], left: str = "│", between: str = "│", right: str = "│") -> str:
        fitted = [cell[:width].ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return f"{left} {f' {between} '.join(fitted)} {right}"

    def rule(left: str, between: str, right: str) -> str:
        return left + between.join("─" * (width + 2) for width in widths) + right

    trainable = _count(model.trainable_weights)
    total = _count(model.weights)
    text = [
        f'Model: "{model.name}"',
        rule("┌", "┬", "┐"),
        line(heads),
        rule("├", "┼", "┤"),
        *map(line, rows),
        rule("└", "┴", "┘"),
        f" Total params: {total:,} ({_bytes(model.weights)})",
        f" Trainable params: {trainable:,} ({_bytes(model.trainable_weights)})",
        f" Non-trainable params: {total - trainable:,} ({_bytes(model.non_trainable_weights)})",
    ]
    (print_fn or print)("\n".join(text))


def _lines(model: Any, expand: bool, depth: int = 0) -> Iterator[tuple[int, Layer]]:
    for layer in model._layers():
        yield depth, layer
        if expand and layer._layers():
            yield from _lines(layer, expand, depth + 1)


def _shape(layer: Any) -> str:
    node = getattr(layer, "_node", None)
    if node is not None:
        shapes = [output.shape for output in nest.flatten(node.outputs)]
    elif layer.first_outputs:
        shapes = [(None, *shape[1:]) for shape in layer.first_outputs]
    else:
        shapes = [getattr(layer, "batch_shape", "?")]
    texts = [str(shape) for shape in shapes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _count(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _bytes(variables: list[Any]) -> str:
    size = float(sum(math.prod(variable.shape) * variable.dtype.size for variable in variables))
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"
