"""Boxes in images, [y1, x1, y2, x2] (`tf.image.non_max_suppression`).

How many boxes are left depends on numbers: boxes and scores are fetched, and chosen in this
process.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradtape import _ops
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor


class CombinedNonMaxSuppression(NamedTuple):
    """What `tf.image.combined_non_max_suppression` returns."""

    nmsed_boxes: Tensor
    nmsed_scores: Tensor
    nmsed_classes: Tensor
    valid_detections: Tensor


# The colours of TensorFlow's boxes where none are given.
_COLORS = (
    (1, 1, 0, 1), (0, 0, 1, 1), (1, 0, 0, 1), (0, 1, 0, 1), (0.5, 0, 0.5, 1),
    (0.5, 0.5, 0, 1), (0.5, 0, 0, 1), (0, 0, 0.5, 1), (0, 1, 1, 1), (1, 0, 1, 1),
)  # fmt: skip


def non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = -math.inf,
    name: str | None = None,
) -> Tensor:
    """Numbers of the boxes with the highest scores, without those that overlap a better one.

    Args:
        boxes: Tensor of shape [boxes, 4].
        scores: A score for each box.
        max_output_size: How many boxes to return at most.
        iou_threshold: Overlap, as a share of the union, above which a box is left out.
        score_threshold: Score that a box must exceed.
        name: Ignored.
    """
    overlap = _overlap(np.asarray(boxes, np.float32))
    chosen, _ = _choose(scores, max_output_size, iou_threshold, score_threshold, 0.0, overlap)
    return constant(np.array(chosen, np.int32))


def non_max_suppression_with_scores(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = -math.inf,
    soft_nms_sigma: Any = 0.0,
    name: str | None = None,
) -> tuple[Tensor, Tensor]:
    """`non_max_suppression`, and the scores of the boxes.

    With a positive `soft_nms_sigma`, overlaps lower a score instead (Bodla et al. 2017).
    """
    overlap = _overlap(np.asarray(boxes, np.float32))
    chosen, kept = _choose(
        scores, max_output_size, iou_threshold, score_threshold, float(soft_nms_sigma), overlap
    )
    return constant(np.array(chosen, np.int32)), constant(np.array(kept, np.float32))


def non_max_suppression_overlaps(
    overlaps: Any,
    scores: Any,
    max_output_size: Any,
    overlap_threshold: Any = 0.5,
    score_threshold: Any = -math.inf,
    name: str | None = None,
) -> Tensor:
    """`non_max_suppression` with a matrix of overlaps in place of boxes."""
    matrix = np.asarray(overlaps)
    chosen, _ = _choose(
        scores,
        max_output_size,
        overlap_threshold,
        score_threshold,
        0.0,
        lambda i, j: float(matrix[i, j]),
    )
    return constant(np.array(chosen, np.int32))


def non_max_suppression_padded(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = -math.inf,
    pad_to_max_output_size: bool = False,
    name: str | None = None,
    sorted_input: bool = False,
    canonicalized_coordinates: bool = False,
    tile_size: int = 512,
) -> tuple[Tensor, Tensor]:
    """`non_max_suppression`, and how many of the numbers are valid; also of batches.

    Args:
        boxes: Tensor of shape [..., boxes, 4].
        scores: A score for each box.
        max_output_size: How many boxes to return at most.
        iou_threshold: Overlap, as a share of the union, above which a box is left out.
        score_threshold: Score that a box must exceed.
        pad_to_max_output_size: Whether zeros follow, up to so many numbers; so they do in batches.
        name: Ignored.
        sorted_input: Ignored.
        canonicalized_coordinates: Ignored.
        tile_size: Ignored.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    batch, size = scores.shape[:-1], int(max_output_size)
    rows, counts = [], []
    flat = zip(
        boxes.reshape(-1, *boxes.shape[-2:]), scores.reshape(-1, scores.shape[-1]), strict=True
    )
    for these, of_these in flat:
        chosen, _ = _choose(of_these, size, iou_threshold, score_threshold, 0.0, _overlap(these))
        counts.append(len(chosen))
        missing = size - len(chosen) if batch or pad_to_max_output_size else 0
        rows.append(chosen + [0] * missing)
    numbers = np.array(rows, np.int32).reshape(*batch, -1)
    return constant(numbers), constant(np.array(counts, np.int32).reshape(batch))


def combined_non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size_per_class: Any,
    max_total_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = -math.inf,
    pad_per_class: bool = False,
    clip_boxes: bool = True,
    name: str | None = None,
) -> CombinedNonMaxSuppression:
    """The best boxes of all classes of each image; overlaps count within a class.

    Args:
        boxes: Tensor of shape [batch, boxes, classes or 1, 4].
        scores: Tensor of shape [batch, boxes, classes].
        max_output_size_per_class: How many boxes of a class to choose at most.
        max_total_size: How many boxes to return for each image.
        iou_threshold: Overlap, as a share of the union, above which a box is left out.
        score_threshold: Score that a box must exceed.
        pad_per_class: Whether no more boxes are returned than there can be.
        clip_boxes: Whether boxes are clipped to [0, 1].
        name: Ignored.

    Returns:
        Boxes, scores and classes, filled up with zeros, and how many there are in each image.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    per_class, total = int(max_output_size_per_class), int(max_total_size)
    classes = scores.shape[2]
    if pad_per_class:
        total = min(total, per_class * classes)
    found = np.zeros((len(boxes), total, 6), np.float32)
    counts = np.zeros(len(boxes), np.int32)
    for image, (of_image, of_scores) in enumerate(zip(boxes, scores, strict=True)):
        rows = []
        for number in range(classes):
            these = of_image[:, min(number, of_image.shape[1] - 1)]
            chosen, kept = _choose(
                of_scores[:, number],
                per_class,
                iou_threshold,
                score_threshold,
                0.0,
                _overlap(these),
            )
            rows += [(*these[i], s, number) for i, s in zip(chosen, kept, strict=True)]
        rows = sorted(rows, key=lambda row: -row[4])[:total]
        counts[image] = len(rows)
        if rows:
            found[image, : len(rows)] = rows
    coordinates = np.clip(found[..., :4], 0.0, 1.0) if clip_boxes else found[..., :4]
    return CombinedNonMaxSuppression(
        constant(coordinates), constant(found[..., 4]), constant(found[..., 5]), constant(counts)
    )


def draw_bounding_boxes(images: Any, boxes: Any, colors: Any, name: str | None = None) -> Tensor:
    """Draws the edges of boxes, which are in shares of the extents, into a batch of images.

    Args:
        images: Tensor of shape [batch, height, width, channels].
        boxes: Tensor of shape [batch, boxes, 4]; they are fetched.
        colors: Colours of the boxes, which take turns; None for TensorFlow's.
        name: Ignored.
    """
    images = images if isinstance(images, Value) else convert_to_tensor(images)
    batch, height, width, channels = images.shape
    palette = np.asarray([] if colors is None else colors, np.float32)
    if not palette.size:
        palette = np.asarray(_COLORS, np.float32)
    drawn = np.zeros((batch, height, width), bool)
    ink = np.zeros((batch, height, width, channels), np.float32)
    for image, of_image in enumerate(np.asarray(boxes, np.float32)):
        for number, box in enumerate(of_image):
            edges = _edges(box, height, width)
            drawn[image] |= edges
            ink[image][edges] = palette[number % len(palette)][:channels]
    return _ops.where(constant(drawn[..., None]), convert(ink, images.dtype), images)


def _edges(box: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Which pixels are on the edges of a box, as far as they are inside of the image."""
    top, bottom = (int(box[i] * np.float32(height - 1)) for i in (0, 2))
    left, right = (int(box[i] * np.float32(width - 1)) for i in (1, 3))
    edges = np.zeros((height, width), bool)
    rows = slice(max(top, 0), max(min(bottom, height - 1) + 1, 0))
    columns = slice(max(left, 0), max(min(right, width - 1) + 1, 0))
    if bottom < top or right < left:
        return edges
    for row in (top, bottom):
        if 0 <= row < height:
            edges[row, columns] = True
    for column in (left, right):
        if 0 <= column < width:
            edges[rows, column] = True
    return edges


def _overlap(boxes: npt.NDArray[Any]) -> Callable[[int, int], float]:
    """The intersection over the union of two boxes, of which corners may be in any order."""
    low = np.minimum(boxes[:, :2], boxes[:, 2:])
    high = np.maximum(boxes[:, :2], boxes[:, 2:])
    areas = (high - low).prod(axis=1)

    def overlap(i: int, j: int) -> float:
        if areas[i] <= 0 or areas[j] <= 0:
            return 0.0
        shared = np.maximum(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), 0).prod()
        return float(shared / (areas[i] + areas[j] - shared))

    return overlap


def _choose(
    scores: Any,
    most: Any,
    threshold: Any,
    least_score: Any,
    sigma: float,
    overlap: Callable[[int, int], float],
) -> tuple[list[int], list[float]]:
    """The best numbers, and their scores, by a queue of candidates."""
    threshold, least = float(threshold), float(least_score)
    values = np.asarray(scores, np.float32).tolist()
    # The best first, and of equals the first; then how many choices it was compared with.
    queue = [(-score, i, 0) for i, score in enumerate(values) if score > least]
    heapq.heapify(queue)
    chosen: list[int] = []
    kept: list[float] = []
    while queue and len(chosen) < int(most):
        negative, i, compared = heapq.heappop(queue)
        before = score = -negative
        dropped = False
        for j in itertools.islice(reversed(chosen), len(chosen) - compared):
            share = overlap(i, j)
            if sigma > 0:
                score *= math.exp(-0.5 / sigma * share * share)
            elif share > threshold:
                dropped = True
            if dropped or score <= least:
                break
        if not dropped and score == before:
            chosen.append(i)
            kept.append(score)
        elif not dropped and score > least:
            heapq.heappush(queue, (-score, i, len(chosen)))
    return chosen, kept
