"""The optimizers of the server's table. `docs/optimizers.md` has their formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gradtape import _wire
from gradtape.keras.optimizers.optimizer import Common, Optimizer, Rate
from gradtape.variable import Variable

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SGD(Optimizer):
    """Gradient descent.

    Args:
        learning_rate: Learning rate.
        momentum: How much of the last step goes on.
        nesterov: Whether to look ahead along the momentum.
        **common: See `Common`.
    """

    _name = "sgd"

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError("`momentum` must be a float between [0, 1].")
        own = {"momentum": float(momentum), "nesterov": nesterov}
        super().__init__(learning_rate, own, **common)


class Adam(Optimizer):
    """Adam: steps by the mean of gradients over the root of their mean square.

    Args:
        learning_rate: Learning rate.
        beta_1: Decay of the mean.
        beta_2: Decay of the mean square.
        epsilon: Keeps the quotient finite.
        amsgrad: Whether to divide by the largest mean square so far.
        **common: See `Common`.
    """

    _name = "adam"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "amsgrad": amsgrad}
        super().__init__(learning_rate, own, **common)


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Args:
        learning_rate: Learning rate.
        weight_decay: Variables shrink by the learning rate times this.
        beta_1: Decay of the mean.
        beta_2: Decay of the mean square.
        epsilon: Keeps the quotient finite.
        amsgrad: Whether to divide by the largest mean square so far.
        **common: See `Common`.
    """

    _name = "adamw"

    def __init__(  # type: ignore[misc]
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        if weight_decay is None:
            raise ValueError("Argument `weight_decay` must be a float. Received: weight_decay=None")
        common["weight_decay"] = weight_decay
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **common)


class _OfMoments(Optimizer):
    """What has Adam's arguments but for `amsgrad`.

    Args:
        learning_rate: Learning rate.
        beta_1: Decay of the mean.
        beta_2: Decay of the mean square.
        epsilon: Keeps the quotient finite.
        **common: See `Common`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        own = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(learning_rate, own, **common)


class Adamax(_OfMoments):
    """Adam with the largest magnitude in place of the root mean square."""

    _name = "adamax"


class Nadam(_OfMoments):
    """Adam that looks ahead along the momentum."""

    _name = "nadam"


class Lamb(_OfMoments):
    """Adam whose step for each variable is as long as the variable, for large batches."""

    _name = "lamb"


class ScheduleFreeAdamW(Optimizer):
    """AdamW on an average of its iterates, so that it needs no schedule.

    Args:
        learning_rate: Learning rate.
        beta_1: How near to the average the gradient is taken.
        beta_2: Decay of the mean square.
        epsilon: Keeps the quotient finite.
        warmup_steps: The learning rate rises linearly over so many steps.
        **common: See `Common`.
    """

    _name = "schedule_free_adamw"

    def __init__(
        self,
        learning_rate: Rate = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **common: Unpack[Common],
    ) -> None:
        own = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "warmup_steps": warmup_steps}
        super().__init__(learning_rate, own, **common)


class RMSprop(Optimizer):
    """Steps by the gradient over the root of its mean square.

    Args:
        learning_rate: Learning rate.
        rho: Decay of the mean square.
        momentum: How much of the last step goes on.
        epsilon: Keeps the quotient finite.
        centered: Whether to divide by the standard deviation instead.
        **common: See `Common`.
    """

    _name = "rmsprop"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"rho": rho, "momentum": float(momentum), "epsilon": epsilon, "centered": centered}
        super().__init__(learning_rate, own, **common)


class Adagrad(Optimizer):
    """Steps by the gradient over the root of the sum of its squares.

    Args:
        learning_rate: Learning rate.
        initial_accumulator_value: What the sum of squares begins with.
        epsilon: Keeps the quotient finite.
        **common: See `Common`.
    """

    _name = "adagrad"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        own = {"initial_accumulator_value": initial_accumulator_value, "epsilon": epsilon}
        super().__init__(learning_rate, own, **common)


class Adadelta(Optimizer):
    """Steps by the gradient, scaled by the ratio of mean squares of steps and gradients.

    Args:
        learning_rate: Learning rate.
        rho: Decay of the mean squares.
        epsilon: Keeps the quotient finite.
        **common: See `Common`.
    """

    _name = "adadelta"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, {"rho": rho, "epsilon": epsilon}, **common)


class Ftrl(Optimizer):
    """Follow the regularised leader: sparse weights for linear models.

    Args:
        learning_rate: Learning rate.
        learning_rate_power: How the rate decreases with the accumulated squares; at most 0.
        initial_accumulator_value: What the sum of squares begins with.
        l1_regularization_strength: Strength of the absolute penalty.
        l2_regularization_strength: Strength of the squared penalty.
        l2_shrinkage_regularization_strength: Strength of a squared penalty added to the gradient.
        beta: Steadies the first rates.
        **common: See `Common`.
    """

    _name = "ftrl"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "learning_rate_power": learning_rate_power,
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
            "beta": beta,
        }
        super().__init__(learning_rate, own, **common)


class Lion(Optimizer):
    """Steps of one length along the sign of an interpolated momentum.

    Args:
        learning_rate: Learning rate.
        beta_1: How much the momentum counts in a step.
        beta_2: Decay of the momentum.
        **common: See `Common`.
    """

    _name = "lion"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, {"beta_1": beta_1, "beta_2": beta_2}, **common)


class Adafactor(Optimizer):
    """Adam without momentum that keeps mean squares of matrices by rows and columns only.

    Args:
        learning_rate: Largest learning rate.
        beta_2_decay: The decay of the mean squares at step t is 1 - t ** this.
        epsilon_1: Keeps the mean squares positive.
        epsilon_2: Smallest scale of a variable.
        clip_threshold: Largest root mean square of a step before scaling.
        relative_step: Whether the rate is at most 1 / sqrt(t), which it is in any case.
        **common: See `Common`.
    """

    _name = "adafactor"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "beta_2_decay": beta_2_decay,
            "epsilon_1": epsilon_1,
            "epsilon_2": epsilon_2,
            "clip_threshold": clip_threshold,
            "relative_step": relative_step,
        }
        super().__init__(learning_rate, own, **common)


class Muon(Optimizer):
    """Steps matrices along the nearest orthogonal matrix of the momentum, all else by AdamW.

    Args:
        learning_rate: Learning rate.
        adam_beta_1: Decay of Adam's mean.
        adam_beta_2: Decay of Adam's mean square.
        adam_weight_decay: Weight decay of what is stepped by AdamW.
        epsilon: Keeps Adam's quotient finite.
        weight_decay: Weight decay of matrices.
        exclude_layers: Regular expressions: what fits a part of its path is stepped by AdamW.
        exclude_embeddings: Whether AdamW steps variables with "embedding" in their path.
        muon_a: First coefficient of the iteration.
        muon_b: Second coefficient of the iteration.
        muon_c: Third coefficient of the iteration.
        adam_lr_ratio: Adam's learning rate is the learning rate times this.
        momentum: How much of the last step goes on.
        ns_steps: Number of iterations.
        nesterov: Whether to look ahead along the momentum.
        rms_rate: A step's root mean square, in units of the learning rate; None for any.
        clipnorm: See `Common`, as for all up to `name`.
        clipvalue: See `Common`.
        global_clipnorm: See `Common`.
        use_ema: See `Common`.
        ema_momentum: See `Common`.
        ema_overwrite_frequency: See `Common`.
        loss_scale_factor: See `Common`.
        gradient_accumulation_steps: See `Common`.
        name: See `Common`.
        compat: See `Common`.
    """

    _name = "muon"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "muon",
        exclude_layers: Iterable[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        compat: str = "keras",
    ) -> None:
        self.exclude_layers = list(exclude_layers or ())
        self.exclude_embeddings = exclude_embeddings
        common: Common = {
            "compat": compat,
            "weight_decay": weight_decay,
            "clipnorm": clipnorm,
            "clipvalue": clipvalue,
            "global_clipnorm": global_clipnorm,
            "use_ema": use_ema,
            "ema_momentum": ema_momentum,
            "ema_overwrite_frequency": ema_overwrite_frequency,
            "loss_scale_factor": loss_scale_factor,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "name": name,
        }
        own = {
            "adam_beta_1": adam_beta_1,
            "adam_beta_2": adam_beta_2,
            "adam_weight_decay": adam_weight_decay,
            "epsilon": epsilon,
            "muon_a": muon_a,
            "muon_b": muon_b,
            "muon_c": muon_c,
            "adam_lr_ratio": float(adam_lr_ratio),
            "momentum": momentum,
            "ns_steps": ns_steps,
            "nesterov": nesterov,
            "rms_rate": rms_rate or 0.0,
        }
        super().__init__(learning_rate, own, **common)

    def _flags(self, variable: Variable) -> bytes:
        path = variable.path
        embedding = self.exclude_embeddings and "embedding" in path.lower()
        adam = embedding or any(re.search(pattern, path) for pattern in self.exclude_layers)
        return super()._flags(variable) + _wire.number_field(5, int(adam))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an optimizer like this one, without its state."""
        layers = {
            "exclude_layers": self.exclude_layers,
            "exclude_embeddings": self.exclude_embeddings,
        }
        return {**super().get_config(), **layers}
