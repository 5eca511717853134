"""Makes losses and metrics of functions of targets and predictions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from gradtape.keras._registry import snake_case


def wrap(
    cls: Any,
    function: Callable[..., Any],
    before: list[Any],
    after: list[Any],
    order: Sequence[str] | None = None,
) -> None:
    """Gives a class the options of a function as parameters of its constructor.

    Args:
        cls: The class. It gets the attribute `function`, and the name of an object is by default
            the class' own in snake_case.
        function: Takes targets, predictions and the options.
        before: Names and defaults of parameters that come before the options.
        after: Names and defaults of those that come after them.
        order: Names of all parameters, where they come otherwise; options that are not among them
            are none.
    """
    cls.function = staticmethod(function)
    options = list(inspect.signature(function).parameters.values())[2:]
    own = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=(cls.default_name or snake_case(cls.__name__)) if name == "name" else default,
        )
        for name, default in (*before, *after)
    ]
    parameters = [*own[: len(before)], *options, *own[len(before) :]]
    if order is not None:
        by_name = {parameter.name: parameter for parameter in parameters}
        parameters = [by_name[name] for name in order]
    cls.__signature__ = inspect.Signature(parameters)
    names = {parameter.name for parameter in parameters}
    cls.options = [option.name for option in options if option.name in names]


def arguments(self: Any, args: Any, kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the options of the function among the arguments, and the other arguments."""
    bound = type(self).__signature__.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    options = {name: given.pop(name) for name in self.options}
    return options, dict(given)
