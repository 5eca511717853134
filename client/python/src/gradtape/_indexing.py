"""What `x[...]` means, in the terms of the op `strided_slice`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtape import _wire
from gradtape._execute import emit

if TYPE_CHECKING:
    from gradtape.tensor import Tensor, Value


def strided_slice(x: Value, keys: tuple[Any, ...]) -> Tensor:
    """Takes what `x[keys]` names: integers, slices, an ellipsis, new axes."""
    return emit(_wire.template("strided_slice", window(keys), 1), (x,), x._dtype)


def window(keys: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the attributes of `strided_slice` and its relatives for what `x[keys]` names."""
    begin, end, strides = [], [], []
    begin_mask = end_mask = ellipsis_mask = shrink_mask = new_axis_mask = 0
    for i, key in enumerate(keys):
        bit = 1 << i
        if key is None:
            bounds = (0, 1, 1)
            new_axis_mask |= bit
        elif key is Ellipsis:
            if ellipsis_mask:
                raise ValueError("Multiple ellipses are not allowed in an index.")
            bounds = (0, 0, 1)
            ellipsis_mask |= bit
        elif isinstance(key, slice):
            step = 1 if key.step is None else int(key.step)
            bounds = (int(key.start or 0), int(key.stop or 0), step)
            begin_mask |= bit if key.start is None else 0
            end_mask |= bit if key.stop is None else 0
        elif hasattr(key, "__index__") and not isinstance(key, bool):
            index = int(key)
            bounds = (index, index + 1, 1)
            end_mask |= bit if index == -1 else 0
            shrink_mask |= bit
        else:
            raise TypeError(
                "Only integers, slices (`:`), ellipsis (`...`) and tf.newaxis (`None`) are valid "
                f"indices, got {key!r}"
            )
        begin.append(bounds[0])
        end.append(bounds[1])
        strides.append(bounds[2])
    masks = {
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "shrink_axis_mask": shrink_mask,
        "new_axis_mask": new_axis_mask,
    }
    return {
        "begin": tuple(begin),
        "end": tuple(end),
        "strides": tuple(strides),
        **{name: mask for name, mask in masks.items() if mask},
    }
