"""Metrics of segmentation: how much of two regions they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.metrics.base import Metric

_EPSILON = 1e-7


class IoU(Metric):
    """Mean over classes of intersection by union of targets and predictions.

    Keras counts in integers, which cuts weights off, unless `dtype` says otherwise; here it counts
    in floats.

    Args:
        num_classes: Number of classes.
        target_class_ids: The classes of the mean.
        name: Name for people.
        dtype: Element type of the state.
        ignore_class: Number of a class whose targets do not count.
        sparse_y_true: Whether targets are class numbers rather than one for each class.
        sparse_y_pred: Whether predictions are class numbers rather than one for each class.
        axis: The axis of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(dtype, name)
        self.num_classes, self.ignore_class, self.axis = num_classes, ignore_class, axis
        self.target_class_ids = list(target_class_ids)
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        # Rows are targets, columns predictions.
        self.total_cm = self.add_variable((num_classes, num_classes), name="total_confusion_matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets and predictions."""
        targets = self._classes(y_true, self.sparse_y_true)
        said = self._classes(y_pred, self.sparse_y_pred)
        # Numbers out of range give rows without a one, which count nowhere.
        rows = tf.one_hot(targets, self.num_classes, dtype=self.dtype)
        columns = tf.one_hot(said, self.num_classes, dtype=self.dtype)
        if self.ignore_class is not None:
            counts = tf.cast(tf.not_equal(targets, self.ignore_class), self.dtype)
            rows = rows * tf.expand_dims(counts, -1)
        if sample_weight is not None:
            weight = tf.cast(tf.convert_to_tensor(sample_weight), self.dtype)
            weight = tf.broadcast_to(tf.reshape(weight, (-1,)), targets.shape)
            rows = rows * tf.expand_dims(weight, -1)
        self.total_cm.assign_add(tf.matmul(rows, columns, transpose_a=True))

    def _classes(self, y: Any, sparse: bool) -> Any:
        y = tf.convert_to_tensor(y)
        if not sparse:
            y = tf.argmax(y, axis=self.axis)
        return tf.reshape(tf.cast(y, tf.int64), (-1,))

    def result(self) -> Any:
        """Returns the mean over the classes that there were."""
        total = self.total_cm.read_value()
        both = tf.reduce_sum(total * np.eye(self.num_classes, dtype=np.float32), axis=0)
        union = tf.reduce_sum(total, axis=0) + tf.reduce_sum(total, axis=1) - both
        both = tf.gather(both, self.target_class_ids)
        union = tf.gather(union, self.target_class_ids)
        there = tf.cast(tf.greater(union, 1e-9), self.dtype)
        shares = there * both / (union + _EPSILON)
        return tf.reduce_sum(shares) / (tf.reduce_sum(there) + _EPSILON)


class MeanIoU(IoU):
    """Mean over all classes of intersection by union; the arguments are those of `IoU`."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis,
        )  # fmt: skip


class OneHotIoU(IoU):
    """`IoU` of targets that are one for each class."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` of targets that are one for each class."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """`IoU` of two classes, by a threshold.

    Args:
        target_class_ids: The classes of the mean.
        threshold: From where on a prediction is class 1.
        name: Name for people.
        dtype: Element type of the state.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in targets, 0 or 1, and predictions."""
        y_pred = tf.convert_to_tensor(y_pred)
        said = tf.cast(tf.greater_equal(y_pred, self.threshold), tf.int64)
        super().update_state(y_true, said, sample_weight)
