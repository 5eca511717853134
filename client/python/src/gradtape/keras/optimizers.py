"""Optimizers. The steps and their state live on the server; these objects name them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from gradtape import _context, _wire
from gradtape._execute import command, same_session
from gradtape.indexed_slices import IndexedSlices
from gradtape.keras import _registry
from gradtape.tensor import convert
from gradtape.variable import Variable


class Optimizer:
    """The base of all optimizers.

    Args:
        learning_rate: Learning rate, a float.
        weight_decay: Decoupled weight decay.
        clipnorm: Largest norm of each gradient.
        clipvalue: Largest magnitude of a gradient's element.
        global_clipnorm: Largest norm of all gradients together.
        loss_scale_factor: What the loss was multiplied by.
        gradient_accumulation_steps: Gradients are averaged over so many steps before an update.
        name: Name for people.
        **hyperparameters: Those of the optimizer.
    """

    # Name in the server's table.
    _name: str

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **hyperparameters: Any,
    ) -> None:
        if not isinstance(learning_rate, float):
            raise ValueError(
                "Argument `learning_rate` should be float. "
                f"Received instead: learning_rate={learning_rate} (of type {type(learning_rate)})"
            )
        self.name = name or type(self).__name__.lower()
        self._learning_rate = learning_rate
        self._loss_scale = loss_scale_factor
        self._accumulated = gradient_accumulation_steps or 1
        common = {
            "weight_decay": weight_decay,
            "clipnorm": clipnorm,
            "clipvalue": clipvalue,
            "global_clipnorm": global_clipnorm,
            "loss_scale_factor": loss_scale_factor,
            "gradient_accumulation_steps": gradient_accumulation_steps,
        }
        given = {"learning_rate": learning_rate, **hyperparameters, **common}
        self._session = session = _context.session()
        self._handle = session.new_handle()
        body = _wire.handle_field(1, self._handle) + _wire.bytes_field(2, self._name.encode())
        command(_wire.CREATE_OPTIMIZER, body + _attributes(3, given))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._session.dead.append(self._handle)

    @property
    def learning_rate(self) -> float:
        """The learning rate; it can be set at any step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = float(value)
        body = _wire.handle_field(1, self._handle)
        command(_wire.SET_OPTIMIZER, body + _attributes(2, {"learning_rate": self._learning_rate}))

    @property
    def iterations(self) -> int:
        """Updates made so far. Waits for the server."""
        scope = _context.scope()
        body = _wire.handle_field(1, self._handle)
        call = self._session.call(_wire.APPLY_OPTIMIZER, body, scope.tail())
        steps = int(self._session.wait(call, scope.number).optimizer.iterations)
        return steps // self._accumulated

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> None:
        """Takes one step, for all variables or, if anything is wrong, for none.

        Args:
            grads_and_vars: Pairs of a gradient and its variable. Those without a gradient are
                skipped with a warning.
        """
        pairs = list(grads_and_vars)
        kept = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
        if pairs and not kept:
            raise ValueError("No gradients provided for any variable.")
        if len(kept) < len(pairs):
            missing = [variable.name for gradient, variable in pairs if gradient is None]
            warnings.warn(f"Gradients do not exist for variables {missing}", stacklevel=2)
        scope = _context.scope()
        fields, held = [_wire.handle_field(1, self._handle)], []
        for gradient, variable in kept:
            if isinstance(gradient, IndexedSlices):
                parts = [variable, gradient.values, gradient.indices]
            else:
                parts = [variable, convert(gradient, variable.dtype)]
            held.append(parts)
            same_session(self._session, parts)
            pair = b"".join(_wire.handle_field(i, part._handle) for i, part in enumerate(parts, 1))
            fields.append(_wire.bytes_field(2, pair))
            for tape in scope.tapes:
                numbers = map(tape._signature.number, parts)
                tape._signature.step(("apply optimizer", *numbers))
        command(_wire.APPLY_OPTIMIZER, b"".join(fields), scope)
        for _, variable in kept:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by what the gradients are then divided by."""
        return loss if self._loss_scale is None else loss * self._loss_scale

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable]) -> None:
        """Takes one step with gradients and variables in two lists of the same length."""
        self.apply_gradients(zip(grads, trainable_variables, strict=True))


def _attributes(field: int, given: dict[str, Any]) -> bytes:
    """Encodes hyperparameters; those that are None are left to the server."""
    return b"".join(
        _wire.bytes_field(field, _wire.attribute(name, value))
        for name, value in given.items()
        if value is not None
    )


class SGD(Optimizer):
    """Gradient descent with momentum."""

    _name = "sgd"

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, **kwargs)


class Adam(Optimizer):
    """Adam."""

    _name = "adam"

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            **kwargs,
        )


class Adagrad(Optimizer):
    """Adagrad."""

    _name = "adagrad"

    def __init__(
        self,
        learning_rate: float = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            **kwargs,
        )


_BY_NAME = {"sgd": SGD, "adam": Adam, "adagrad": Adagrad}


def get(identifier: Any) -> Any:
    """Returns an optimizer by name; one is returned as it is."""
    if isinstance(identifier, Optimizer):
        return identifier
    return _registry.find("optimizer", _BY_NAME, identifier)
