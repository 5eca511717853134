"""Learning rates that depend on the step, with the formulas of Keras.

The server evaluates them, so that a step need not wait. Here they can be called, for a plot, or
asked for by a schedule of one's own; a schedule that the server does not know is evaluated here,
before each step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradtape import dtypes
from gradtape.tensor import Tensor, Value, constant


class LearningRateSchedule:
    """The base of all schedules.

    One of your own has `__call__`, which gives the rate of a step, and `get_config`.
    """

    # Name in the server's table; schedules without one are evaluated by the client.
    _name = ""

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, counted from 0."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `__call__(self, step)`."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make a schedule like this one."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `get_config()` in "
            "order to be serializable."
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LearningRateSchedule:
        """Makes a schedule from what `get_config` returned."""
        return cls(**config)


class _OfTheServer(LearningRateSchedule):
    """A schedule of the server's table, evaluated here by `_rate`."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.name = name
        self._config = config

    def __call__(self, step: Any) -> Tensor:
        """Returns the rate of a step, counted from 0: a float32 tensor."""
        step = float(step.numpy() if isinstance(step, Value) else step)
        return constant(np.float32(self._rate(step)), dtypes.float32)

    def _rate(self, step: float) -> float:
        raise NotImplementedError

    def _attributes(self) -> dict[str, Any]:
        """The attributes that the server takes."""
        return self._config

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make a schedule like this one."""
        return {**self._config, "name": self.name}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_config"][name]
        except KeyError:
            raise AttributeError(name) from None


def _positive(**given: float) -> None:
    for name, value in given.items():
        if value <= 0:
            raise ValueError(f"Argument `{name}` must be > 0. Received: {name}={value}")


class ExponentialDecay(_OfTheServer):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: After so many steps the rate has decayed once.
        decay_rate: How much it decays.
        staircase: Whether it decays all at once after `decay_steps`.
        name: Name for people.
    """

    _name = "exponential_decay"

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        _positive(decay_steps=decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "decay_steps": float(decay_steps),
            "decay_rate": float(decay_rate),
            "staircase": staircase,
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        decays = step / self.decay_steps
        decays = math.floor(decays) if self.staircase else decays
        return float(self.initial_learning_rate * self.decay_rate**decays)


class InverseTimeDecay(_OfTheServer):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps).

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: After so many steps the rate has decayed once.
        decay_rate: How much it decays.
        staircase: Whether it decays all at once after `decay_steps`.
        name: Name for people.
    """

    _name = "inverse_time_decay"

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        _positive(decay_steps=decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "decay_steps": float(decay_steps),
            "decay_rate": float(decay_rate),
            "staircase": staircase,
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        decays = step / self.decay_steps
        decays = math.floor(decays) if self.staircase else decays
        return float(self.initial_learning_rate / (1 + self.decay_rate * decays))


class PiecewiseConstantDecay(_OfTheServer):
    """values[i] up to and including step boundaries[i], and then the last value.

    Args:
        boundaries: Steps, ascending.
        values: The rates: one more than boundaries.
        name: Name for people.
    """

    _name = "piecewise_constant_decay"

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        name: str = "PiecewiseConstant",
    ) -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values. Received: "
                f"boundaries={boundaries} of length {len(boundaries)}, and values={values} of "
                f"length {len(values)}."
            )
        config = {"boundaries": list(map(float, boundaries)), "values": list(map(float, values))}
        super().__init__(name, config)

    def _attributes(self) -> dict[str, Any]:
        # Steps are whole.
        return {**self._config, "boundaries": [math.floor(step) for step in self.boundaries]}

    def _rate(self, step: float) -> float:
        return float(self.values[bisect.bisect_left(self.boundaries, step)])


class PolynomialDecay(_OfTheServer):
    """A rate that falls to another along a polynomial.

    (initial - end) * (1 - min(step, decay_steps) / decay_steps) ** power + end.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: The step at which the end is reached.
        end_learning_rate: The last rate.
        power: The exponent; 1 is linear.
        cycle: Whether to begin again after `decay_steps`, with a multiple of them.
        name: Name for people.
    """

    _name = "polynomial_decay"

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        _positive(decay_steps=decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "decay_steps": float(decay_steps),
            "end_learning_rate": float(end_learning_rate),
            "power": float(power),
            "cycle": cycle,
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(1, math.ceil(step / steps))
        left = 1 - min(step, steps) / steps
        span = self.initial_learning_rate - self.end_learning_rate
        return float(span * left**self.power + self.end_learning_rate)


class CosineDecay(_OfTheServer):
    """A rate that falls along half a wave (Loshchilov and Hutter 2017).

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: How many steps the half wave has.
        alpha: The last rate, as a fraction of the one from which it falls.
        name: Name for people.
        warmup_target: The rate to which it rises first, if it does.
        warmup_steps: How many steps that takes, which come before `decay_steps`.
    """

    _name = "cosine_decay"

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        _positive(decay_steps=decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "decay_steps": float(decay_steps),
            "alpha": float(alpha),
            "warmup_target": warmup_target,
            "warmup_steps": warmup_steps,
        }
        super().__init__(name, config)

    def _attributes(self) -> dict[str, Any]:
        shared = {name: self._config[name] for name in ("decay_steps", "alpha")}
        if self.warmup_target is None:
            return {"initial_learning_rate": self.initial_learning_rate, **shared}
        return {
            "initial_learning_rate": float(self.warmup_target),
            "warmup_from": self.initial_learning_rate,
            "warmup_steps": int(self.warmup_steps),
            **shared,
        }

    def _rate(self, step: float) -> float:
        top = self.initial_learning_rate
        if self.warmup_target is not None:
            top = self.warmup_target
            if step < self.warmup_steps:
                rise = (top - self.initial_learning_rate) * step / self.warmup_steps
                return float(self.initial_learning_rate + rise)
            step -= self.warmup_steps
        wave = (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps)) / 2
        return float(top * ((1 - self.alpha) * wave + self.alpha))


class CosineDecayRestarts(_OfTheServer):
    """Half waves that begin again, each longer than the last (Loshchilov and Hutter 2017).

    Args:
        initial_learning_rate: The rate at step 0.
        first_decay_steps: Length of the first period.
        t_mul: Each period is so many times as long as the last.
        m_mul: Each period begins with so many times the rate of the last.
        alpha: The last rate of a period, as a fraction of the first rate of all.
        name: Name for people.
    """

    _name = "cosine_decay_restarts"

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        _positive(first_decay_steps=first_decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "first_decay_steps": float(first_decay_steps),
            "t_mul": float(t_mul),
            "m_mul": float(m_mul),
            "alpha": float(alpha),
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        completed = step / self.first_decay_steps
        if self.t_mul == 1.0:
            period = math.floor(completed)
            completed -= period
        else:
            period = math.floor(math.log(1 - completed * (1 - self.t_mul), self.t_mul))
            before = (1 - self.t_mul**period) / (1 - self.t_mul)
            completed = (completed - before) / self.t_mul**period
        wave = self.m_mul**period * (1 + math.cos(math.pi * completed)) / 2
        return float(self.initial_learning_rate * ((1 - self.alpha) * wave + self.alpha))


class InverseSqrtDecay(_OfTheServer):
    """initial_learning_rate / sqrt(1 + step / decay_steps), after a linear warmup; not in Keras.

    Args:
        initial_learning_rate: The highest rate.
        decay_steps: After three times so many steps the rate has halved.
        warmup_steps: The rate first rises from 0 over so many steps.
        name: Name for people.
    """

    _name = "inverse_sqrt_decay"

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        warmup_steps: int = 0,
        name: str = "InverseSqrtDecay",
    ) -> None:
        _positive(decay_steps=decay_steps)
        config = {
            "initial_learning_rate": float(initial_learning_rate),
            "decay_steps": float(decay_steps),
            "warmup_steps": int(warmup_steps),
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        if step < self.warmup_steps:
            return float(self.initial_learning_rate * step / self.warmup_steps)
        decayed = 1 + (step - self.warmup_steps) / self.decay_steps
        return float(self.initial_learning_rate / math.sqrt(decayed))


class OneCycle(_OfTheServer):
    """A rate that rises along half a wave and falls along another, as PyTorch's OneCycleLR.

    Args:
        max_learning_rate: The highest rate.
        total_steps: Steps of the whole cycle.
        pct_start: Share of the steps in which the rate rises.
        div_factor: The first rate is the highest divided by this.
        final_div_factor: The last rate is the first divided by this.
        name: Name for people.
    """

    _name = "one_cycle"

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 10000.0,
        name: str = "OneCycle",
    ) -> None:
        _positive(total_steps=total_steps)
        config = {
            "max_learning_rate": float(max_learning_rate),
            "total_steps": float(total_steps),
            "pct_start": float(pct_start),
            "div_factor": float(div_factor),
            "final_div_factor": float(final_div_factor),
        }
        super().__init__(name, config)

    def _rate(self, step: float) -> float:
        first = self.max_learning_rate / self.div_factor
        last = first / self.final_div_factor
        turn, whole = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if step <= turn and turn > 0:
            start, end, share = first, self.max_learning_rate, step / turn
        else:
            start, end = self.max_learning_rate, last
            share = min((step - turn) / (whole - turn), 1.0) if whole > turn else 1.0
        return float(end + (start - end) * (1 + math.cos(math.pi * share)) / 2)


_BY_NAME: dict[str, type[LearningRateSchedule]] = {
    schedule.__name__: schedule
    for schedule in (
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseSqrtDecay,
        InverseTimeDecay,
        OneCycle,
        PiecewiseConstantDecay,
        PolynomialDecay,
    )
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """Returns the class and the arguments of a schedule."""
    config = learning_rate_schedule.get_config()
    return {"class_name": type(learning_rate_schedule).__name__, "config": config}


def deserialize(
    config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> LearningRateSchedule:
    """Makes a schedule from what `serialize` returned."""
    known = {**_BY_NAME, **(custom_objects or {})}
    name = config["class_name"]
    if name not in known:
        raise ValueError(f"Unknown learning rate schedule: {name}")
    return known[name].from_config(config["config"])  # type: ignore[no-any-return]
