"""`tf.function`, which changes nothing here: what it decorates runs eagerly, as without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


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
    """Decorates a function, which runs eagerly on each call: nothing is traced or compiled.

    So Python's side effects happen on each call and not only on the first, and control flow is
    Python's. Everything but `func` is accepted and has no effect.

    Args:
        func: The function; without it, what this returns decorates one.
        input_signature: Ignored.
        autograph: Ignored.
        jit_compile: Ignored.
        reduce_retracing: Ignored.
        experimental_implements: Ignored.
        experimental_autograph_options: Ignored.
        experimental_attributes: Ignored.
    """
    if func is None:
        return function

    @functools.wraps(func)
    def eager(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    eager.python_function = func  # type: ignore[attr-defined]
    return eager


def run_functions_eagerly(run_eagerly: bool) -> None:
    """Has no effect: functions always run eagerly."""


def functions_run_eagerly() -> bool:
    """Says that functions run eagerly."""
    return True


__all__ = ["function", "functions_run_eagerly", "run_functions_eagerly"]
