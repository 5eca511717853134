"""Moving averages of variables (`tf.train.ExponentialMovingAverage`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradtape import _ops
from gradtape.tensor import Reference, Value, cast, convert
from gradtape.variable import Variable


class ExponentialMovingAverage:
    """Keeps for each variable an average in which later values count more.

    `average = decay * average + (1 - decay) * variable` at each `apply`, and the value of the
    variable at the first.

    Args:
        decay: How much of the old average stays.
        num_updates: A count of updates, with which the decay is at most (1 + n) / (10 + n): so
            averages move faster at the beginning.
        zero_debias: Ignored: averages of variables do not start at zero.
        name: Name of the averages, behind that of their variable.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        self._decay = decay
        self._num_updates = num_updates
        self._name = name
        self._averages: dict[Reference, Variable] = {}

    @property
    def name(self) -> str:
        """Name of the averages."""
        return self._name

    def apply(self, var_list: Iterable[Variable] | None = None) -> None:
        """Moves the averages of variables, and starts those that there are not yet.

        Args:
            var_list: The variables; there is no collection of all, so they must be given.
        """
        if var_list is None:
            raise ValueError("ExponentialMovingAverage.apply needs the variables.")
        for variable in var_list:
            if not isinstance(variable, Variable):
                raise TypeError("ExponentialMovingAverage averages variables only.")
            if not variable.dtype.is_floating:
                raise TypeError(f"The variables must be half, float, or double: {variable.name}")
            average = self._averages.get(variable.ref())
            if average is None:
                name = self.average_name(variable)
                average = Variable(variable.read_value(), trainable=False, name=name)
                self._averages[variable.ref()] = average
            share = _ops.subtract(1.0, self._decay_of_now(variable))
            average.assign_sub(_ops.multiply(_ops.subtract(average, variable), share))

    def _decay_of_now(self, variable: Variable) -> Any:
        decay = self._decay
        if isinstance(decay, Value):
            decay = cast(decay, variable.dtype)
        else:
            decay = convert(float(decay), variable.dtype)
        if self._num_updates is None:
            return decay
        count = self._num_updates
        count = cast(count if isinstance(count, Value) else float(count), variable.dtype)
        return _ops.minimum(decay, (1.0 + count) / (10.0 + count))

    def average(self, var: Variable) -> Variable | None:
        """Returns the variable that holds the average of another one, or None."""
        return self._averages.get(var.ref())

    def average_name(self, var: Variable) -> str:
        """Returns the name of the average of a variable."""
        return f"{var.name.partition(':')[0]}/{self._name}"

    def variables_to_restore(
        self, moving_avg_variables: Iterable[Variable] | None = None
    ) -> dict[str, Variable]:
        """Returns variables by the names of their averages, to restore these into them.

        Args:
            moving_avg_variables: The variables; those that have an average by default.
        """
        if moving_avg_variables is None:
            moving_avg_variables = [reference.deref() for reference in self._averages]  # type: ignore[misc]
        return {self.average_name(variable): variable for variable in moving_avg_variables}
