"""The area under a curve over thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.losses.functions import pair
from gradtape.keras.metrics.confusion import _Confusion

# Keeps the first and last threshold of a curve beyond all probabilities, as in Keras.
_EPSILON = 1e-7


class AUC(_Confusion):
    """Area under a curve over thresholds, by trapezoids.

    Args:
        num_thresholds: Number of thresholds.
        curve: "ROC" or "PR".
        summation_method: "interpolation", "minoring" or "majoring".
        name: Name for people.
        dtype: Element type of the state.
        thresholds: The inner thresholds themselves.
        multi_label: Whether the last axis holds labels that have an area each; the result is
            their mean.
        num_labels: How many labels there are; as many as the first batch has by default.
        label_weights: Weights of the labels.
        from_logits: Whether predictions are logits.
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        if num_labels is not None and not multi_label:
            raise ValueError("`num_labels` is needed only when `multi_label` is True.")
        if curve not in ("ROC", "PR") or summation_method not in (
            "interpolation", "minoring", "majoring",
        ):  # fmt: skip
            raise ValueError(f"Invalid curve or summation method: {curve}, {summation_method}")
        count = num_thresholds
        inner = thresholds or [(i + 1) / (count - 1) for i in range(count - 2)]
        # What the counts are like depends on it.
        self.multi_label, self.num_labels = multi_label, num_labels
        super().__init__([-_EPSILON, *sorted(inner), 1.0 + _EPSILON], name, dtype)
        self.curve, self.summation_method = curve, summation_method
        self.label_weights = None if label_weights is None else list(label_weights)
        self.from_logits = from_logits

    def _make_counts(self) -> None:
        if not self.multi_label:
            super()._make_counts()
        elif self.num_labels is not None:
            self._add_counts((len(self._thresholds), self.num_labels))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets, 0 or 1, and predictions."""
        weights = None
        if self.label_weights is not None:
            weights = tf.constant(np.array(self.label_weights, np.float32))
        if self.multi_label:
            self._update_labels(*self._chosen(*pair(y_true, y_pred)), sample_weight)
        elif weights is None:
            super().update_state(y_true, y_pred, sample_weight)
        else:
            if sample_weight is not None:
                given = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
                weights = tf.reshape(given, (-1, 1)) * weights
            super().update_state(y_true, y_pred, tf.broadcast_to(weights, np.shape(y_pred)))

    def _update_labels(self, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        if not self._variables:
            self._add_counts((len(self._thresholds), y_pred.shape[-1]))
        # Axes: thresholds, examples, labels.
        positive, scores = tf.expand_dims(y_true, 0), tf.expand_dims(y_pred, 0)
        weight = tf.ones_like(positive)
        if sample_weight is not None:
            given = tf.cast(tf.convert_to_tensor(sample_weight), y_true.dtype)
            weight = weight * tf.reshape(given, (1, -1, 1 if given.ndim == 1 else given.shape[-1]))
        bounds = self._thresholds[..., None]
        self._count(scores > bounds, positive, weight)

    def _chosen(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        return y_true, tf.sigmoid(y_pred) if self.from_logits else y_pred

    def result(self) -> Any:
        """Returns the area."""
        hits = self.true_positives.read_value()
        alarms = self.false_positives.read_value()
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._interpolated(hits, alarms)
        recall = tf.math.divide_no_nan(hits, hits + self.false_negatives)
        if self.curve == "ROC":
            x = tf.math.divide_no_nan(alarms, alarms + self.true_negatives)
            y = recall
        else:
            x, y = recall, tf.math.divide_no_nan(hits, hits + alarms)
        left, right = y[:-1], y[1:]
        heights = {
            "interpolation": (left + right) / 2.0,
            "minoring": tf.minimum(left, right),
            "majoring": tf.maximum(left, right),
        }[self.summation_method]
        return self._joined((x[:-1] - x[1:]) * heights)

    def _joined(self, areas: Any) -> Any:
        """Returns the sum of the areas, or the mean of those of the labels."""
        if not self.multi_label:
            return tf.reduce_sum(areas)
        of_labels = tf.reduce_sum(areas, axis=0)
        if self.label_weights is None:
            return tf.reduce_mean(of_labels)
        weights = tf.constant(np.array(self.label_weights, np.float32))
        return tf.math.divide_no_nan(tf.reduce_sum(of_labels * weights), tf.reduce_sum(weights))

    def _interpolated(self, hits: Any, alarms: Any) -> Any:
        """Area under precision and recall with precision interpolated (Davis and Goadrich 2006)."""
        said = hits + alarms
        more_hits = hits[:-1] - hits[1:]
        slope = tf.math.divide_no_nan(more_hits, tf.maximum(said[:-1] - said[1:], 0.0))
        intercept = hits[1:] - slope * said[1:]
        both = tf.logical_and(tf.greater(said[:-1], 0.0), tf.greater(said[1:], 0.0))
        ratio = tf.math.divide_no_nan(said[:-1], tf.maximum(said[1:], 0.0))
        safe = tf.where(both, ratio, tf.ones_like(ratio))
        area = slope * (more_hits + intercept * tf.math.log(safe))
        positives = tf.maximum(hits[1:] + self.false_negatives[1:], 0.0)
        return self._joined(tf.math.divide_no_nan(area, positives))
