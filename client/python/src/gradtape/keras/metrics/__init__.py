"""Metrics: numbers that gather over batches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras import _registry, serialization
from gradtape.keras import losses as _losses
from gradtape.keras.losses.functions import *
from gradtape.keras.losses.functions import pair as _pair
from gradtape.keras.metrics import functions as _functions
from gradtape.keras.metrics.base import (
    FunctionMetric as _FunctionMetric,
)
from gradtape.keras.metrics.base import Mean, MeanMetricWrapper, Metric, Sum
from gradtape.keras.metrics.confusion import (
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from gradtape.keras.metrics.curves import AUC
from gradtape.keras.metrics.functions import *
from gradtape.keras.metrics.overlap import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU


class Accuracy(_FunctionMetric, function=_functions.accuracy):
    """Share of predictions that equal the targets."""


class BinaryAccuracy(_FunctionMetric, function=_functions.binary_accuracy):
    """Share of predictions on the targets' side of a threshold."""


class CategoricalAccuracy(_FunctionMetric, function=_functions.categorical_accuracy):
    """Share of examples whose likeliest class is the target's."""


class SparseCategoricalAccuracy(_FunctionMetric, function=_functions.sparse_categorical_accuracy):
    """Share of examples whose likeliest class is the target."""


class TopKCategoricalAccuracy(Mean):
    """Share of examples whose target's class is among the likeliest.

    Args:
        k: How many classes are looked at.
        name: Name for people.
        dtype: Element type of the state.
    """

    _function = staticmethod(_functions.top_k_categorical_accuracy)

    def __init__(
        self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype)
        self.k = k

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes in targets and predictions."""
        super().update_state(self._function(y_true, y_pred, self.k), sample_weight)


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """Share of examples whose target is among the likeliest classes.

    Args:
        k: How many classes are looked at.
        name: Name for people.
        dtype: Element type of the state.
    """

    _function = staticmethod(_functions.sparse_top_k_categorical_accuracy)

    def __init__(
        self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(k, name, dtype)


class MeanSquaredError(_FunctionMetric, function=_losses.mean_squared_error):
    """Mean of squared differences."""


class MeanAbsoluteError(_FunctionMetric, function=_losses.mean_absolute_error):
    """Mean of absolute differences."""


class MeanAbsolutePercentageError(_FunctionMetric, function=_losses.mean_absolute_percentage_error):
    """Mean of absolute differences in percent of the targets."""


class MeanSquaredLogarithmicError(_FunctionMetric, function=_losses.mean_squared_logarithmic_error):
    """Mean of squared differences of logarithms."""


class RootMeanSquaredError(Mean):
    """Root of the mean of squared differences."""

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes in targets and predictions."""
        super().update_state(_functions.squared_error(y_true, y_pred), sample_weight)

    def result(self) -> Any:
        """Returns the root."""
        return tf.sqrt(super().result())


class CosineSimilarity(_FunctionMetric, function=_functions.cosine):
    """Mean cosine of the angle."""


class LogCoshError(_FunctionMetric, function=_losses.log_cosh, name="logcosh"):
    """Mean of the logarithm of the hyperbolic cosine of differences."""


class KLDivergence(_FunctionMetric, function=_losses.kl_divergence, name="kl_divergence"):
    """Mean of the Kullback-Leibler divergence."""


class Poisson(_FunctionMetric, function=_losses.poisson):
    """Mean of the negative logarithm of the likelihood of counts."""


class Hinge(_FunctionMetric, function=_losses.hinge):
    """Mean of how much predictions fall short of a margin."""


class SquaredHinge(_FunctionMetric, function=_losses.squared_hinge):
    """Mean of the square of how much predictions fall short of a margin."""


class CategoricalHinge(_FunctionMetric, function=_losses.categorical_hinge):
    """Mean of how much the class falls short of a margin to the best other one."""


class BinaryCrossentropy(_FunctionMetric, function=_losses.binary_crossentropy):
    """Mean cross-entropy of independent probabilities."""


class CategoricalCrossentropy(_FunctionMetric, function=_losses.categorical_crossentropy):
    """Mean cross-entropy of distributions."""


class SparseCategoricalCrossentropy(
    _FunctionMetric, function=_losses.sparse_categorical_crossentropy
):
    """Mean cross-entropy of class numbers."""


class PearsonCorrelation(_FunctionMetric, function=_functions.pearson_correlation):
    """Mean covariance in units of both standard deviations."""


class ConcordanceCorrelation(_FunctionMetric, function=_functions.concordance_correlation):
    """Mean nearness of pairs to the line where both are equal."""


class R2Score(Metric):
    """Share of the targets' variance that the predictions explain.

    Args:
        class_aggregation: "uniform_average", "variance_weighted_average", or None for one number
            for each output.
        num_regressors: Number of inputs that the predictions come from: the share is less for
            more of them.
        name: Name for people.
        dtype: Element type of the state.
    """

    squared_sum: Any
    sum: Any
    total_mse: Any
    count: Any

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        if num_regressors < 0:
            raise ValueError(f"`num_regressors` must not be negative, got {num_regressors}")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self._samples = 0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets and predictions of shape [batch, outputs]."""
        y_true, y_pred = _pair(y_true, y_pred)
        if not self._variables:
            for name in ("squared_sum", "sum", "total_mse", "count"):
                setattr(self, name, self.add_variable((y_true.shape[-1],), name=name))
        ones = tf.ones_like(y_true)
        weight = ones
        if sample_weight is not None:
            given = tf.cast(tf.convert_to_tensor(sample_weight), self.dtype)
            weight = tf.reshape(given, (-1, 1)) * ones
        for name, values in (
            ("squared_sum", y_true * y_true),
            ("sum", y_true),
            ("total_mse", tf.math.squared_difference(y_true, y_pred)),
            ("count", ones),
        ):
            getattr(self, name).assign_add(tf.reduce_sum(values * weight, axis=0))
        # Keras counts targets here, where the formula has examples.
        self._samples += int(np.prod(y_true.shape))

    def reset_state(self) -> None:
        """Forgets all batches."""
        super().reset_state()
        self._samples = 0

    def result(self) -> Any:
        """Returns the share."""
        mean = self.sum / self.count
        total = self.squared_sum - self.sum * mean
        scores = 1.0 - self.total_mse / total
        if self.class_aggregation == "uniform_average":
            scores = tf.reduce_mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = tf.reduce_sum(scores * total) / tf.reduce_sum(total)
        spare = self._samples - self.num_regressors - 1
        if not self.num_regressors:
            return scores
        if spare <= 0:
            warnings.warn(
                f"Of {self._samples} targets and {self.num_regressors} regressors there is no "
                "adjusted R2 score: this is the usual one.",
                stacklevel=2,
            )
            return scores
        return 1.0 - (1.0 - scores) * ((self._samples - 1.0) / spare)


_CLASSES = [
    cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, Metric)
]
_BY_NAME: dict[str, Any] = {_registry.snake_case(cls.__name__): cls for cls in _CLASSES}
_BY_NAME |= {name: globals()[name] for name in (*_losses.functions.__all__, *_functions.__all__)}


def get(identifier: Any) -> Any:
    """Returns a metric by name: a function, or an object that is given."""
    return _registry.find("metric", _BY_NAME, identifier)


def metric_of(identifier: Any) -> Any:
    """Returns a `Metric` for what `Model.compile` was given."""
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, str):
        if identifier in ("accuracy", "acc", "crossentropy", "ce"):
            return _Chosen(identifier)
        found = get(identifier)
        label: str | None = identifier
        if isinstance(found, Metric):
            return type(found)(name=identifier)
    else:
        found = identifier() if isinstance(identifier, type) else identifier
        label = getattr(found, "__name__", None)
    return found if isinstance(found, Metric) else MeanMetricWrapper(found, label)


class _Chosen(Mean):
    """The accuracy or cross-entropy that suits the first targets and predictions."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._choose = (
            _functions.best_accuracy if name.startswith("acc") else _functions.best_crossentropy
        )
        self._function: Any = None

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes in targets and predictions."""
        self._function = self._function or self._choose(y_true, y_pred)
        super().update_state(self._function(y_true, y_pred), sample_weight)


def serialize(metric: Any) -> Any:
    """Returns a metric as plain data, or the name of a function of this module."""
    return serialization.serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Returns the metric of a name or of what `serialize` returned."""
    return _registry.deserialize(get, config, custom_objects)
