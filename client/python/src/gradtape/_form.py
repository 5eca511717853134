"""Shapes of computed tensors, so that a program which asks for them seldom waits.

Only the server infers shapes. But what an op makes of shapes depends on nothing else than the op,
its attributes and those shapes. So tensors that were derived alike share a `Form`, and what the
server said about one of them holds for all. A training loop asks in its first step and knows in
the others, without a rule of any op written a second time here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from gradtape.tensor_shape import TensorShape

# Derivations remembered before all are forgotten: chains that never repeat must not fill the
# memory. A tensor keeps the form that it has.
_MOST_FORMS = 100_000


class Form:
    """What tensors of one derivation have in common: their shape, once somebody asked for it."""

    __slots__ = ("shape",)

    def __init__(self, shape: TensorShape | None = None) -> None:
        self.shape = shape


_forms: dict[Hashable, Form] = {}


def of_shape(shape: Iterable[int]) -> Form:
    """Returns the form of tensors whose shape is known."""
    key = tuple(shape)
    found = _forms.get(key)
    return found or _remember(key, Form(TensorShape(key)))


def derived(key: tuple[Any, ...]) -> Form:
    """Returns the form of what an op makes.

    Args:
        key: The template of the op, the number of the result if it has several, and the forms of
            the inputs.
    """
    found = _forms.get(key)
    return found or _remember(key, Form())


def _remember(key: Hashable, form: Form) -> Form:
    if len(_forms) >= _MOST_FORMS:
        _forms.clear()
    return _forms.setdefault(key, form)
