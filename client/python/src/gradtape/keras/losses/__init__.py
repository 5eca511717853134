"""Losses: one number for a batch, from targets and predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape import nest
from gradtape.keras import _registry, _wrapping, serialization
from gradtape.keras._configured import Configured
from gradtape.keras.losses.functions import *
from gradtape.keras.losses.functions import same_rank


class Loss(Configured):
    """A loss with a reduction.

    Args:
        name: Name for people.
        reduction: "sum_over_batch_size" or "mean" (the mean), "mean_with_sample_weight" (divided by
            the sum of weights), "sum", or "none" or None for one loss each.
        dtype: Element type to compute in; that of the predictions by default.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        if reduction not in _REDUCTIONS:
            raise ValueError(
                "Invalid value for argument `reduction`. Expected one of "
                f"{_REDUCTIONS}. Received: reduction={reduction}"
            )
        self.reduction = reduction
        self.name = name or _registry.snake_case(type(self).__name__)
        self.dtype = None if dtype is None else tf.as_dtype(dtype)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of a batch."""
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = nest.map_structure(self._tensor, y_pred)
        losses = self.call(y_true, y_pred)
        for each in (mask, getattr(losses, "_keras_mask", None)):
            if each is not None:
                sample_weight = self._masked(sample_weight, each, losses.dtype)
        return self._reduce(losses, sample_weight)

    def _tensor(self, y: Any) -> Any:
        y = tf.convert_to_tensor(y, dtype_hint=tf.float32)
        if self.dtype is None:
            # Sums of half precision would lose what they are to measure.
            return tf.cast(y, tf.float32) if y.dtype.is_floating and y.dtype.size < 4 else y
        return tf.cast(y, self.dtype)

    def _masked(self, sample_weight: Any, mask: Any, dtype: Any) -> Any:
        """Returns weights in which what does not count has none, and does not thin the mean."""
        weight = tf.cast(mask, dtype)
        if self.reduction in ("sum_over_batch_size", "mean"):
            share = tf.math.divide_no_nan(float(math.prod(mask.shape)), tf.reduce_sum(weight))
            weight = weight * share
        if sample_weight is None:
            return weight
        weight, given = same_rank(weight, tf.cast(tf.convert_to_tensor(sample_weight), dtype))
        return weight * given

    def _reduce(self, losses: Any, sample_weight: Any) -> Any:
        weight = None
        if sample_weight is not None:
            weight = tf.cast(tf.convert_to_tensor(sample_weight), losses.dtype)
            losses, weight = same_rank(losses, weight)
            if weight.ndim < losses.ndim:
                weight = tf.reshape(weight, (*weight.shape, *(1,) * (losses.ndim - weight.ndim)))
            losses = losses * weight
        if self.reduction in ("none", None):
            return losses
        if self.reduction == "sum":
            return tf.reduce_sum(losses)
        if weight is not None and self.reduction == "mean_with_sample_weight":
            return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(weight))
        return tf.reduce_mean(losses)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        raise TypeError(f"{type(self).__name__} does not say how to compute the loss")


_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class _FunctionLoss(Loss):
    """The loss that a function computes; takes its options, then those of `Loss`."""

    function: Callable[..., Any]
    default_name: str | None = None

    def __init_subclass__(
        cls,
        function: Callable[..., Any],
        name: str | None = None,
        order: str | None = None,
    ) -> None:
        super().__init_subclass__()
        cls.default_name = name
        after = [("reduction", "sum_over_batch_size"), ("name", None), ("dtype", None)]
        _wrapping.wrap(cls, function, [], after, None if order is None else order.split())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._options, others = _wrapping.arguments(self, args, kwargs)
        super().__init__(**others)
        vars(self).update(self._options)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return self.function(y_true, y_pred, **self._options)


class MeanSquaredError(_FunctionLoss, function=mean_squared_error):
    """Mean of squared differences."""


class MeanAbsoluteError(_FunctionLoss, function=mean_absolute_error):
    """Mean of absolute differences."""


class MeanAbsolutePercentageError(_FunctionLoss, function=mean_absolute_percentage_error):
    """Mean of absolute differences in percent of the targets."""


class MeanSquaredLogarithmicError(_FunctionLoss, function=mean_squared_logarithmic_error):
    """Mean of squared differences of logarithms."""


class CosineSimilarity(_FunctionLoss, function=cosine_similarity):
    """Cosine of the angle, with the opposite sign."""


class Huber(_FunctionLoss, function=huber, name="huber_loss"):
    """Squared near the target, linear beyond `delta`."""


class LogCosh(_FunctionLoss, function=log_cosh):
    """Logarithm of the hyperbolic cosine of differences."""


class KLDivergence(_FunctionLoss, function=kl_divergence, name="kl_divergence"):
    """Kullback-Leibler divergence of distributions."""


class Poisson(_FunctionLoss, function=poisson):
    """Negative logarithm of the likelihood of counts."""


class Hinge(_FunctionLoss, function=hinge):
    """How much predictions fall short of a margin of 1."""


class SquaredHinge(_FunctionLoss, function=squared_hinge):
    """Square of how much predictions fall short of a margin of 1."""


class CategoricalHinge(_FunctionLoss, function=categorical_hinge):
    """How much the class falls short of a margin to the best other one."""


class BinaryCrossentropy(_FunctionLoss, function=binary_crossentropy):
    """Cross-entropy of independent probabilities."""


class BinaryFocalCrossentropy(_FunctionLoss, function=binary_focal_crossentropy):
    """Cross-entropy of probabilities in which what is predicted well counts little."""


class CategoricalCrossentropy(_FunctionLoss, function=categorical_crossentropy):
    """Cross-entropy of distributions."""


class CategoricalFocalCrossentropy(_FunctionLoss, function=categorical_focal_crossentropy):
    """Cross-entropy of distributions in which what is predicted well counts little."""


class CategoricalGeneralizedCrossEntropy(
    _FunctionLoss, function=categorical_generalized_cross_entropy
):
    """Cross-entropy that bears wrong labels better."""


class SparseCategoricalCrossentropy(
    _FunctionLoss,
    function=sparse_categorical_crossentropy,
    order="from_logits ignore_class reduction axis name dtype",
):
    """Cross-entropy of class numbers."""


class Dice(_FunctionLoss, function=dice, order="reduction name axis dtype"):
    """One less the Sørensen-Dice coefficient."""


class Tversky(_FunctionLoss, function=tversky, order="alpha beta reduction name axis dtype"):
    """One less the Tversky index."""


class Circle(
    _FunctionLoss, function=circle, order="gamma margin remove_diagonal reduction name dtype"
):
    """Brings embeddings of one class together and those of others apart."""


_CLASSES = (
    MeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredLogarithmicError,
    CosineSimilarity, Huber, LogCosh, KLDivergence, Poisson, Hinge, SquaredHinge, CategoricalHinge,
    BinaryCrossentropy, BinaryFocalCrossentropy, CategoricalCrossentropy,
    CategoricalFocalCrossentropy, CategoricalGeneralizedCrossEntropy,
    SparseCategoricalCrossentropy, Dice, Tversky, Circle,
)  # fmt: skip
_BY_NAME = {_registry.snake_case(cls.__name__): cls for cls in _CLASSES}
_BY_NAME |= {
    name: cls
    for cls in _CLASSES
    for name, function in list(globals().items())
    if function is cls.function
}


def get(identifier: Any) -> Any:
    """Returns a loss by name: a function of targets and predictions, or an object that is given."""
    if isinstance(identifier, str):
        functions = {name: cls.function for name, cls in _BY_NAME.items()}
        return _registry.find("loss", functions, identifier)
    return _registry.find("loss", _BY_NAME, identifier)


def loss_of(identifier: Any) -> Loss:
    """Returns a `Loss` for what `Model.compile` was given."""
    found = get(identifier)
    if isinstance(found, Loss):
        return found
    for cls in _CLASSES:
        if found is cls.function:
            return cls()

    class FunctionLoss(Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return found(y_true, y_pred)

    return FunctionLoss(getattr(found, "__name__", None))


def serialize(loss: Any) -> Any:
    """Returns a loss as plain data, or the name of a function of this module."""
    return serialization.serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: Any = None) -> Any:
    """Returns the loss of a name or of what `serialize` returned."""
    return _registry.deserialize(get, name, custom_objects)
