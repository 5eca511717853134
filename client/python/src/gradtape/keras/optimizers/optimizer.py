"""What all optimizers share; the steps and their state live on the server."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from gradtape import _context, _wire, dtypes
from gradtape._execute import command, same_session
from gradtape._form import of_shape
from gradtape.indexed_slices import IndexedSlices
from gradtape.keras.optimizers import schedules
from gradtape.tensor import Tensor, Value, cast, convert
from gradtape.variable import Variable

if TYPE_CHECKING:
    from typing_extensions import Unpack

Rate = float | schedules.LearningRateSchedule | Callable[[], Any]


class Common(TypedDict, total=False):
    """The arguments of every optimizer, as Keras has them, and `compat`.

    weight_decay: Decoupled weight decay: variables shrink by the learning rate times this.
    clipnorm: Largest norm of each gradient.
    clipvalue: Largest magnitude of a gradient's element.
    global_clipnorm: Largest norm of all gradients together.
    use_ema: Whether to keep a moving average of each variable.
    ema_momentum: Decay of that average.
    ema_overwrite_frequency: After so many updates variables take the values of their averages.
    loss_scale_factor: What the loss was multiplied by; see `scale_loss`.
    gradient_accumulation_steps: Gradients are averaged over so many steps before an update.
    name: Name for people.
    compat: Whose formulas to use where libraries differ: "keras" or "torch".
    """

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None
    compat: str


_DEFAULTS: Common = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "name": None,
    "compat": "keras",
}


class Optimizer:
    """The base of all optimizers.

    Args:
        learning_rate: A float, a schedule, or a function without arguments that is called before
            each step.
        hyperparameters: Those of the optimizer.
        **common: See `Common`.
    """

    # Name in the server's table.
    _name: str
    # Of the arguments that every optimizer takes, those that are looked at later.
    gradient_accumulation_steps: int | None
    loss_scale_factor: float | None
    use_ema: bool

    def __init_subclass__(cls) -> None:
        """Shows people and their editors the arguments that every optimizer takes."""
        signature = inspect.signature(cls.__init__)
        own = list(signature.parameters.values())[1:]
        if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
            more = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                for name, default in _DEFAULTS.items()
                if name not in signature.parameters
            ]
            cls.__signature__ = signature.replace(parameters=[*own[:-1], *more])  # type: ignore[attr-defined]

    def __init__(
        self,
        learning_rate: Rate,
        hyperparameters: Mapping[str, Any] | None = None,
        **common: Unpack[Common],
    ) -> None:
        unknown = common.keys() - _DEFAULTS.keys()
        if unknown:
            raise ValueError(f"Argument(s) not recognized: {', '.join(sorted(unknown))}")
        common = {**_DEFAULTS, **common}
        self._check(learning_rate, common)
        self.name: str = common.pop("name") or type(self).__name__.lower()
        for name, value in common.items():
            setattr(self, name, value)
        self._rate = learning_rate
        self._own = dict(hyperparameters or {})
        self._plain: list[Variable | re.Pattern[str]] = []
        # Calls of `apply`: the step that a schedule of the client's sees.
        self._calls = 0
        self._session = session = _context.session()
        self._handle = session.new_handle()
        given: dict[str, Any] = {**self._own, **common}
        given["use_ema"] = common["use_ema"] or None
        if not common["use_ema"]:
            given["ema_momentum"] = given["ema_overwrite_frequency"] = None
        given["compat"] = None if common["compat"] == "keras" else common["compat"]
        body = _wire.handle_field(1, self._handle) + _wire.bytes_field(2, self._name.encode())
        # Whether the server has a schedule.
        self._scheduled = self._schedule_of_server() is not None
        if not self._scheduled:
            given["learning_rate"] = self._rate_of(0)
        body += _attributes(3, given) + self._schedule_field(4)
        command(_wire.CREATE_OPTIMIZER, body)

    @staticmethod
    def _check(learning_rate: Rate, common: Common) -> None:
        if not isinstance(learning_rate, float) and not callable(learning_rate):
            raise ValueError(
                "Argument `learning_rate` should be float, or an instance of LearningRateSchedule, "
                "or a callable (that takes in the current iteration value and returns the "
                "corresponding learning rate value). "
                f"Received instead: learning_rate={learning_rate} (of type {type(learning_rate)})"
            )
        clips = ("clipnorm", "clipvalue", "global_clipnorm")
        given = [name for name in clips if common[name] is not None]  # type: ignore[literal-required]
        if len(given) > 1:
            raise ValueError(
                f"Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set, got {given}"
            )
        steps = common["gradient_accumulation_steps"]
        if steps is not None and steps < 2:
            raise ValueError(f"`gradient_accumulation_steps` must be an integer >= 2, got {steps}")

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._session.dead.append(self._handle)

    # === The learning rate ===

    def _schedule_of_server(self) -> schedules._OfTheServer | None:
        return self._rate if isinstance(self._rate, schedules._OfTheServer) else None

    def _schedule_field(self, field: int) -> bytes:
        schedule = self._schedule_of_server()
        if schedule is None:
            return b""
        body = _wire.bytes_field(1, schedule._name.encode())
        return _wire.bytes_field(field, body + _attributes(2, schedule._attributes()))

    def _rate_of(self, step: int) -> float:
        rate = self._rate
        if isinstance(rate, schedules.LearningRateSchedule):
            rate = rate(step)
        elif callable(rate):
            rate = rate()
        return float(rate.numpy() if isinstance(rate, Value) else rate)

    @property
    def learning_rate(self) -> Any:
        """The learning rate; it can be set at any step, to a float or to a schedule.

        That of a schedule is the rate of the next step, for which it waits for the server.
        """
        return self._rate if isinstance(self._rate, float) else self._rate_of(self._raw_steps())

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, schedules.LearningRateSchedule):
            self._rate = value
        elif isinstance(self._rate, schedules.LearningRateSchedule):
            raise TypeError(
                "This optimizer was created with a `LearningRateSchedule` object as its "
                "`learning_rate` constructor argument, hence its learning rate is not settable. "
                "If you need the learning rate to be settable, you should instantiate the "
                "optimizer with a float `learning_rate` argument."
            )
        else:
            self._rate = value if callable(value) and not isinstance(value, Value) else float(value)
        self._send_rate()

    def _send_rate(self) -> None:
        body = _wire.handle_field(1, self._handle)
        field = self._schedule_field(3)
        if not field:
            rate = _attributes(2, {"learning_rate": self._rate_of(self._calls)})
            # A schedule of the server's gives way to another only: one that is constant.
            constant = _wire.bytes_field(1, b"constant") + rate
            field = _wire.bytes_field(3, constant) if self._scheduled else rate
        self._scheduled |= self._schedule_of_server() is not None
        command(_wire.SET_OPTIMIZER, body + field)

    def _set(self, **hyperparameters: Any) -> None:
        body = _wire.handle_field(1, self._handle)
        command(_wire.SET_OPTIMIZER, body + _attributes(2, hyperparameters))

    # === State ===

    def _read(self, name: str, dtype: dtypes.DType, variable: Variable | None = None) -> Tensor:
        out = self._session.new_handle()
        body = _wire.handle_field(1, self._handle) + _wire.bytes_field(2, name.encode())
        if variable is not None:
            body += _wire.handle_field(3, variable._handle)
        command(_wire.READ_OPTIMIZER, body + _wire.handle_field(4, out))
        shape = () if variable is None else tuple(variable.shape)
        return Tensor(self._session, out, dtype, of_shape(shape))

    def _raw_steps(self) -> int:
        return int(self._read("iterations", dtypes.int64).numpy())

    @property
    def iterations(self) -> int:
        """Updates made so far. Waits for the server."""
        return self._raw_steps() // (self.gradient_accumulation_steps or 1)

    def _resume(self) -> None:
        """Takes note of what a restore changed on the server."""
        self._calls = self._raw_steps()
        if isinstance(self._rate, float):
            self._rate = float(self._read("learning_rate", dtypes.float32).numpy())

    # === Steps ===

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
        if not isinstance(self._rate, (float, schedules._OfTheServer)):
            self._send_rate()
        self._calls += 1
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
            fields.append(_wire.bytes_field(2, pair + self._flags(variable)))
            for tape in scope.tapes:
                numbers = map(tape._signature.number, parts)
                tape._signature.step(("apply optimizer", *numbers))
        command(_wire.APPLY_OPTIMIZER, b"".join(fields), scope)
        for _, variable in kept:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable]) -> None:
        """Takes one step with gradients and variables in two lists of the same length."""
        self.apply_gradients(zip(grads, trainable_variables, strict=True))

    def _flags(self, variable: Variable) -> bytes:
        """What a pair says about its variable besides the gradient."""
        return _wire.number_field(4, int(self._plain != [] and self._is_plain(variable)))

    def _is_plain(self, variable: Variable) -> bool:
        return any(
            known.search(variable.path) if isinstance(known, re.Pattern) else known is variable
            for known in self._plain
        )

    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Variable] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Leaves variables out of weight decay: such as biases and the scales of normalisations.

        Args:
            var_list: Variables.
            var_names: Regular expressions; those fit that match any part of a variable's path.
        """
        self._plain += [*(var_list or ()), *map(re.compile, var_names or ())]

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by what the gradients are then divided by."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Gives variables the values of their moving averages, which needs `use_ema`."""
        if not self.use_ema:
            return
        for variable in var_list:
            kept = dtypes.float32 if variable.dtype.size < 4 else variable.dtype
            variable.assign(cast(self._read("average", kept, variable), variable.dtype))

    # === Configuration ===

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an optimizer like this one, without its state."""
        rate: Any = self._rate
        if isinstance(rate, schedules.LearningRateSchedule):
            rate = schedules.serialize(rate)
        common = {name: getattr(self, name) for name in _DEFAULTS}
        if common["compat"] == "keras":
            # Keras does not know the argument, and need not be told that it is itself.
            del common["compat"]
        return {**common, "learning_rate": rate, **self._own}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Optimizer:
        """Makes an optimizer from what `get_config` returned."""
        config = dict(config)
        if isinstance(config.get("learning_rate"), Mapping):
            config["learning_rate"] = schedules.deserialize(config["learning_rate"], custom_objects)
        return cls(**config)


def _attributes(field: int, given: Mapping[str, Any]) -> bytes:
    """Encodes hyperparameters; those that are None are left to the server."""
    return b"".join(
        _wire.bytes_field(field, _wire.attribute(name, value))
        for name, value in given.items()
        if value is not None
    )
