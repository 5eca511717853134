"""Dense and embedding layers, functions as layers, inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations, symbolic
from gradtape.keras._registry import unused_name
from gradtape.keras.layers.base import Layer


class Dense(Layer):
    """A fully connected layer: `activation(inputs @ kernel + bias)`.

    Args:
        units: Number of outputs.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        kernel_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        kernel_regularizer: Penalty of the kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        kernel_constraint: What the kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if not isinstance(units, int) or units <= 0:
            raise ValueError(
                "Received an invalid value for `units`, expected a positive integer. "
                f"Received: units={units}"
            )
        self.units = units
        self.activation: Callable[..., Any] = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_kind = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._bias_kind = (bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        self.kernel = self.add_kernel((input_shape[-1], self.units), self._kernel_kind, "kernel")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_kernel((self.units,), self._bias_kind, "bias")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        outputs = tf.matmul(self._floating(inputs), self.kernel)
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)


class EinsumDense(Layer):
    """A dense layer whose product is any Einstein sum of the inputs and a kernel.

    Args:
        equation: The sum, as in "abc,cde->abde"; an ellipsis stands for more axes of the inputs.
        output_shape: Shape of an output without the batch, of axes that the equation names.
        activation: Name or function; none by default.
        bias_axes: Letters of the axes that the bias has; without them there is none.
        kernel_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        kernel_regularizer: Penalty of the kernel.
        bias_regularizer: Penalty of the bias.
        kernel_constraint: What the kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.equation = equation.replace(" ", "")
        self.partial_output_shape = [output_shape] if isinstance(output_shape, int) else list(
            output_shape
        )  # fmt: skip
        self.activation: Callable[..., Any] = activations.get(activation)
        self.bias_axes = bias_axes
        self._kernel_kind = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._bias_kind = (bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        left, outputs = self.equation.split("->")
        inputs, kernel = left.split(",")
        extents: dict[str, int] = {}
        for letters, shape in ((outputs, self.partial_output_shape), (inputs, input_shape)):
            if letters.endswith("..."):
                # The named axes come first; those of the outputs without the batch.
                named = letters[1:] if shape is self.partial_output_shape else letters
                extents |= dict(zip(named, shape, strict=False))
            else:
                extents |= dict(zip(letters[::-1].rstrip("."), shape[::-1], strict=False))
        shape = [extents[letter] for letter in kernel]
        self.kernel = self.add_kernel(shape, self._kernel_kind, "kernel")
        self.bias = None
        if self.bias_axes:
            names = outputs.replace(".", "")
            after = names[min(names.index(letter) for letter in self.bias_axes) :]
            shape = [extents[c] if c in self.bias_axes else 1 for c in after]
            if outputs.endswith("..."):
                shape += [1] * (len(input_shape) - len(inputs.replace(".", "")))
            self.bias = self.add_kernel(shape, self._bias_kind, "bias")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        outputs = tf.einsum(self.equation, self._floating(inputs), self.kernel)
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)


class Embedding(Layer):
    """Rows of a table by their numbers; the table's gradient is sparse.

    Args:
        input_dim: Number of rows.
        output_dim: Length of a row.
        embeddings_initializer: First values of the table.
        embeddings_regularizer: Penalty of the table.
        embeddings_constraint: What the table must be like after each step.
        mask_zero: Whether number 0 marks time steps that do not count.
        weights: First values of the table, as an array or in a list.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        self.input_dim, self.output_dim = input_dim, output_dim
        self.mask_zero = self.supports_masking = mask_zero
        self._kind = (embeddings_initializer, embeddings_regularizer, embeddings_constraint)
        if weights is not None:
            self.build()
            self.embeddings.assign(weights[0] if isinstance(weights, (list, tuple)) else weights)

    def build(self, input_shape: Any = None) -> None:
        """Makes the table."""
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.add_kernel(shape, self._kind, "embeddings")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        if not inputs.dtype.is_integer:
            inputs = tf.cast(inputs, tf.int32)
        return tf.gather(self.embeddings, inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns where the numbers are not 0."""
        return tf.not_equal(inputs, 0) if self.mask_zero else None


class ReversibleEmbedding(Embedding):
    """An embedding that also gives scores of the rows for vectors.

    Args:
        input_dim: Number of rows.
        output_dim: Length of a row.
        tie_weights: Whether the scores come from the same table.
        embeddings_initializer: First values of the table.
        embeddings_regularizer: Penalty of the table.
        embeddings_constraint: What the table must be like after each step.
        mask_zero: Whether number 0 marks time steps that do not count.
        reverse_dtype: Dtype in which scores are computed; that of the layer by default.
        logit_soft_cap: What scores approach without exceeding it.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: Any = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim, output_dim, embeddings_initializer, embeddings_regularizer,
            embeddings_constraint, mask_zero, **kwargs,
        )  # fmt: skip
        self.tie_weights, self.logit_soft_cap = tie_weights, logit_soft_cap
        self.reverse_dtype = reverse_dtype

    def build(self, input_shape: Any = None) -> None:
        """Makes the table, and that of the scores if it is another."""
        super().build(input_shape)
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_kernel(shape, self._kind, "reverse_embeddings")

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Returns rows of numbers, or scores of vectors if `reverse` is True."""
        if not reverse:
            return super().call(inputs)
        tied = self.tie_weights
        table = self.embeddings if tied else self.reverse_embeddings
        if self.reverse_dtype is not None:
            inputs, table = (tf.cast(x, self.reverse_dtype) for x in (inputs, table))
        scores = tf.matmul(inputs, table, transpose_b=tied)
        cap = self.logit_soft_cap
        return scores if cap is None else tf.tanh(scores / cap) * cap


class Masking(Layer):
    """Marks time steps whose features all equal `mask_value` as not counting, and zeroes them.

    Args:
        mask_value: The value.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns which time steps count."""
        return tf.reduce_any(tf.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        counts = tf.reduce_any(tf.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return inputs * tf.cast(counts, inputs.dtype)


class Lambda(Layer):
    """A function as a layer.

    Args:
        function: The function. It may take `mask` and `training`.
        output_shape: Ignored: the function is called to find out.
        mask: The mask of the outputs, or a function of the inputs and their mask.
        arguments: Further arguments of the function, by name.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.function, self.mask, self.arguments = function, mask, arguments or {}
        self.supports_masking = mask is not None

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self.function(inputs, **self.arguments)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns what the program gave as the mask."""
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask


class Identity(Layer):
    """Returns its inputs."""

    supports_masking = True


class InputLayer(Layer):
    """Says what the inputs of a model are like.

    Args:
        shape: Shape of one example; extents that are not known are None.
        batch_size: Number of examples; ignored, since a model takes any number.
        dtype: Element type.
        sparse: Must not be True.
        ragged: Must not be True.
        batch_shape: The shape with the number of examples, instead of `shape`.
        input_tensor: Must be None.
        optional: Must be False.
        name: Name for people.
        input_shape: The old name of `shape`.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        *,
        input_shape: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype if dtype is None else tf.as_dtype(dtype))
        if sparse or ragged or optional or input_tensor is not None:
            raise ValueError("Inputs are dense, and none of them is optional or made already.")
        shape = input_shape if shape is None else shape
        if (shape is None) == (batch_shape is None):
            raise ValueError("You must pass either `shape` or `batch_shape`.")
        if shape is None:
            shape = batch_shape[1:]
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.batch_shape = (batch_size, *self.shape)
        self.built = True
        self.symbol = symbolic.new_input(self.shape, self.dtype, self.name)
        self.symbol.layer = self
        self.first_outputs = [self.symbol.shape]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a layer, as Keras writes them."""
        return {
            "batch_shape": list(self.batch_shape),
            "dtype": self.dtype.name,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }


def Input(  # noqa: N802 - Keras' name
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> Any:
    """Returns a symbolic tensor, from which a functional model starts.

    Args:
        shape: Shape of one example; extents that are not known are None.
        batch_size: Number of examples; ignored, since a model takes any number.
        dtype: Element type.
        sparse: Must not be True.
        ragged: Must not be True.
        batch_shape: The shape with the number of examples, instead of `shape`.
        name: Name for people, by which inputs can also be given to the model.
        tensor: A symbolic tensor to return instead.
        optional: Must be False.
    """
    if tensor is not None:
        return tensor
    name = name or unused_name("keras_tensor")
    return InputLayer(
        shape, batch_size, dtype, sparse, ragged, batch_shape, None, optional, name
    ).symbol
