"""Metrics from counts of right and wrong decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.losses.functions import pair
from gradtape.keras.metrics.base import Metric


class _Confusion(Metric):
    """Counts true and false positives and negatives at thresholds."""

    def __init__(self, thresholds: Sequence[float], name: str | None, dtype: Any) -> None:
        super().__init__(dtype, name)
        self._thresholds = np.array(thresholds, np.float32).reshape(-1, 1)
        self._make_counts()

    def _make_counts(self) -> None:
        self._add_counts((len(self._thresholds),))

    def _add_counts(self, shape: tuple[int, ...]) -> None:
        self.true_positives = self.add_variable(shape, name="true_positives")
        self.true_negatives = self.add_variable(shape, name="true_negatives")
        self.false_positives = self.add_variable(shape, name="false_positives")
        self.false_negatives = self.add_variable(shape, name="false_negatives")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets, 0 or 1, and predictions."""
        y_true, y_pred = self._chosen(*pair(y_true, y_pred))
        positive = tf.reshape(y_true, (1, -1))
        weight = tf.ones_like(positive)
        if sample_weight is not None:
            given = tf.cast(tf.convert_to_tensor(sample_weight), y_true.dtype)
            given = tf.reshape(given, (*given.shape, *(1,) * (y_true.ndim - given.ndim)))
            weight = tf.reshape(tf.broadcast_to(given, y_true.shape), (1, -1))
        self._count(tf.greater(tf.reshape(y_pred, (1, -1)), self._thresholds), positive, weight)

    def _count(self, said: Any, positive: Any, weight: Any) -> None:
        """Adds decisions: the axes are those of the thresholds, of examples, perhaps of labels."""
        said = tf.cast(said, weight.dtype)
        is_positive = tf.cast(tf.not_equal(positive, 0.0), weight.dtype)
        yes, no = is_positive * weight, (1.0 - is_positive) * weight
        for variable, counts in (
            (self.true_positives, said * yes),
            (self.true_negatives, (1.0 - said) * no),
            (self.false_positives, said * no),
            (self.false_negatives, (1.0 - said) * yes),
        ):
            variable.assign_add(tf.reduce_sum(counts, axis=1))

    def _chosen(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        return y_true, y_pred

    def _scalar(self, values: Any) -> Any:
        return tf.reshape(values, ()) if len(self._thresholds) == 1 else values


def _listed(thresholds: Any) -> list[float]:
    if thresholds is None:
        return [0.5]
    return [thresholds] if isinstance(thresholds, (int, float)) else list(thresholds)


class _Count(_Confusion):
    _counted: str

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(_listed(thresholds), name, dtype)

    def result(self) -> Any:
        """Returns the number."""
        return self._scalar(getattr(self, self._counted).read_value())


class TruePositives(_Count):
    """Number of true positives."""

    _counted = "true_positives"


class TrueNegatives(_Count):
    """Number of true negatives."""

    _counted = "true_negatives"


class FalsePositives(_Count):
    """Number of false positives."""

    _counted = "false_positives"


class FalseNegatives(_Count):
    """Number of false negatives."""

    _counted = "false_negatives"


class _Share(_Confusion):
    """A share of true positives.

    Args:
        thresholds: Above what a prediction is positive: a number, or a list for as many results.
        top_k: Instead, how many of the likeliest classes are positive.
        class_id: The only class that is looked at.
        name: Name for people.
        dtype: Element type of the state.
    """

    # What the true positives are compared with, besides themselves.
    _others: str

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        default = [0.5] if top_k is None else [-np.inf]
        super().__init__(default if thresholds is None else _listed(thresholds), name, dtype)
        self.top_k, self.class_id = top_k, class_id

    def _chosen(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        if self.top_k is not None:
            # How many classes are likelier than each.
            one, other = tf.expand_dims(y_pred, -1), tf.expand_dims(y_pred, -2)
            likelier = tf.reduce_sum(tf.cast(tf.greater(other, one), tf.float32), axis=-1)
            y_pred = tf.where(tf.less(likelier, float(self.top_k)), y_pred, -np.inf)
        if self.class_id is not None:
            return y_true[..., self.class_id], y_pred[..., self.class_id]
        return y_true, y_pred

    def result(self) -> Any:
        """Returns the share."""
        total = self.true_positives + getattr(self, self._others)
        return self._scalar(tf.math.divide_no_nan(self.true_positives, total))


class Precision(_Share):
    """Share of what was predicted positive that is."""

    _others = "false_positives"


class Recall(_Share):
    """Share of what is positive that was predicted so."""

    _others = "false_negatives"


class _At(_Confusion):
    """The most that one share can be at thresholds where another is large enough.

    Args:
        value: How large the other is at least.
        num_thresholds: Number of thresholds.
        class_id: The only class that is looked at.
        name: Name for people.
        dtype: Element type of the state.
    """

    # Each share is of a count among itself and another count.
    _wanted: tuple[str, str]
    _bounded: tuple[str, str]

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"The bound must be in the range [0, 1], got {value}")
        count = num_thresholds
        inner = [(i + 1) / (count - 1) for i in range(count - 2)]
        super().__init__([0.5] if count == 1 else [0.0, *inner, 1.0], name, dtype)
        self.value, self.class_id = value, class_id

    def _chosen(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        if self.class_id is None:
            return y_true, y_pred
        return y_true[..., self.class_id], y_pred[..., self.class_id]

    def _share(self, names: tuple[str, str]) -> Any:
        count, others = (getattr(self, name).read_value() for name in names)
        return tf.math.divide_no_nan(count, count + others)

    def result(self) -> Any:
        """Returns the share; 0 if the other is never large enough."""
        wanted, bounded = self._share(self._wanted), self._share(self._bounded)
        allowed = tf.greater_equal(bounded, self.value)
        return tf.reduce_max(tf.where(allowed, wanted, tf.zeros_like(wanted)))


_SENSITIVITY = ("true_positives", "false_negatives")
_SPECIFICITY = ("true_negatives", "false_positives")
_PRECISION = ("true_positives", "false_positives")


class SensitivityAtSpecificity(_At):
    """The best sensitivity where the specificity is large enough."""

    _wanted, _bounded = _SENSITIVITY, _SPECIFICITY

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)
        self.specificity = specificity


class SpecificityAtSensitivity(_At):
    """The best specificity where the sensitivity is large enough."""

    _wanted, _bounded = _SPECIFICITY, _SENSITIVITY

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)
        self.sensitivity = sensitivity


class PrecisionAtRecall(_At):
    """The best precision where the recall is large enough."""

    _wanted, _bounded = _PRECISION, _SENSITIVITY

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)
        self.recall = recall


class RecallAtPrecision(_At):
    """The best recall where the precision is large enough."""

    _wanted, _bounded = _SENSITIVITY, _PRECISION

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)
        self.precision = precision


class FBetaScore(Metric):
    """Weighted harmonic mean of precision and recall for each class.

    Args:
        average: None for one number a class, "micro", "macro" or "weighted".
        beta: How many times as much recall counts as precision.
        threshold: Above what a class is predicted; the likeliest class by default.
        name: Name for people.
        dtype: Element type of the state.
    """

    true_positives: Any
    false_positives: Any
    false_negatives: Any
    intermediate: Any

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(f"Invalid `average` argument value: {average!r}")
        self.average, self.beta, self.threshold = average, beta, threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets and predictions of shape [batch, classes]."""
        y_true, y_pred = pair(y_true, y_pred)
        if not self._variables:
            shape = () if self.average == "micro" else (y_pred.shape[-1],)
            for name in ("true_positives", "false_positives", "false_negatives", "intermediate"):
                setattr(self, name, self.add_variable(shape, name=name))
        if self.threshold is None:
            said = tf.equal(y_pred, tf.reduce_max(y_pred, axis=-1, keepdims=True))
            said = tf.logical_and(said, tf.greater(tf.abs(y_pred), 1e-7))
        else:
            said = tf.greater(y_pred, self.threshold)
        said, weight = tf.cast(said, self.dtype), 1.0
        y_true = tf.cast(y_true, self.dtype)
        if sample_weight is not None:
            weight = tf.cast(tf.convert_to_tensor(sample_weight), self.dtype)
            weight = tf.reshape(weight, (-1, 1))
        axis = None if self.average == "micro" else 0
        for name, counts in (
            ("true_positives", said * y_true),
            ("false_positives", said * (1.0 - y_true)),
            ("false_negatives", (1.0 - said) * y_true),
            ("intermediate", y_true),
        ):
            getattr(self, name).assign_add(tf.reduce_sum(counts * weight, axis=axis))

    def result(self) -> Any:
        """Returns the score, or one for each class."""
        hits = self.true_positives
        precision = tf.math.divide_no_nan(hits, hits + self.false_positives)
        recall = tf.math.divide_no_nan(hits, hits + self.false_negatives)
        square = self.beta**2
        score = (precision * recall) * (1.0 + square) / (precision * square + recall + 1e-7)
        if self.average == "weighted":
            shares = tf.math.divide_no_nan(self.intermediate, tf.reduce_sum(self.intermediate))
            return tf.reduce_sum(score * shares)
        return tf.reduce_mean(score) if self.average == "macro" else score


class F1Score(FBetaScore):
    """Harmonic mean of precision and recall for each class."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)
