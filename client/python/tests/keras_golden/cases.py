"""What is computed with Keras and with this package: expressions over the names that both have.

`make.py` evaluates them with Keras and writes the numbers; `test_keras_golden.py` evaluates them
with this package and compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def wave(*shape: int, start: float = 0.0) -> Any:
    """Numbers between -0.9 and 0.9 that are the same everywhere."""
    count = int(np.prod(shape))
    return (0.9 * np.sin(0.7 * np.arange(count) + 1.0 + start)).reshape(shape).astype(np.float32)


def weight(index: int, name: str, shape: tuple[int, ...]) -> Any:
    """The value that a layer's weight is given: variances and counts are positive."""
    values = 0.5 * np.cos(0.9 * np.arange(int(np.prod(shape))) + index).reshape(shape)
    return (np.abs(values) + 0.5 if "variance" in name else values).astype(np.float32)


def pixels(*shape: int) -> Any:
    """Numbers from -90 to 90 that are the same everywhere."""
    return (100.0 * wave(*shape)).astype(np.int32)


IDS = np.array([[1, 3, 0], [2, 0, 0]], np.int32)
MASK = np.array([[True, True, False, True], [True, False, False, False]])

_ACTIVATIONS = """
    celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign
    tanh tanh_shrink glu squareplus sparse_plus sparse_sigmoid
"""

# Constructor, call, inputs. The names: L for layers, x y z for the inputs.
LAYERS: list[tuple[str, str, list[Any]]] = [
    # Core.
    ("L.Dense(4, activation='tanh')", "layer(x)", [wave(3, 5)]),
    ("L.Dense(4, use_bias=False)", "layer(x)", [wave(2, 3, 5)]),
    ("L.Embedding(4, 3)", "layer(x)", [IDS]),
    ("L.Lambda(lambda t: t * 2.0 + 1.0)", "layer(x)", [wave(2, 3)]),
    ("L.Masking(0.0)", "layer(x)", [wave(2, 3, 2) * np.array([[1, 0, 1]]).T.astype("f")]),
    ("L.Identity()", "layer(x)", [wave(2, 3)]),
    ("L.EinsumDense('abc,cde->abde', (None, 3, 2), bias_axes='de')", "layer(x)", [wave(2, 3, 4)]),
    ("L.EinsumDense('...x,xy->...y', 3, activation='relu', bias_axes='y')", "layer(x)",
     [wave(2, 3, 4)]),
    ("L.EinsumDense('ab...,bc->ac...', 3, bias_axes='c')", "layer(x)", [wave(2, 4, 5)]),
    # Activations.
    *[
        (f"L.Activation('{name}')", "layer(x)", [2.0 * wave(2, 6)])
        for name in _ACTIVATIONS.split()
    ],
    ("L.ReLU()", "layer(x)", [wave(2, 4)]),
    ("L.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.2)", "layer(x)", [wave(2, 4)]),
    ("L.LeakyReLU()", "layer(x)", [wave(2, 4)]),
    ("L.PReLU(shared_axes=[1])", "layer(x)", [wave(2, 3, 4)]),
    ("L.ELU(alpha=0.5)", "layer(x)", [wave(2, 4)]),
    ("L.Softmax()", "layer(x)", [wave(2, 4)]),
    ("L.Softmax(axis=(1, 2))", "layer(x)", [wave(2, 3, 4)]),
    ("L.Softmax()", "layer(x, mask=y)", [wave(2, 4), MASK]),
    # Convolutions.
    ("L.Conv1D(3, 3)", "layer(x)", [wave(2, 7, 2)]),
    ("L.Conv1D(3, 3, padding='causal', dilation_rate=2)", "layer(x)", [wave(2, 7, 2)]),
    ("L.Conv1D(4, 2, strides=2, padding='same', groups=2)", "layer(x)", [wave(2, 7, 2)]),
    ("L.Conv2D(3, 3, activation='relu')", "layer(x)", [wave(2, 5, 6, 2)]),
    ("L.Conv2D(3, (2, 3), strides=(2, 1), padding='same')", "layer(x)", [wave(1, 5, 6, 2)]),
    ("L.Conv2D(2, 2, dilation_rate=2, use_bias=False)", "layer(x)", [wave(1, 5, 6, 2)]),
    ("L.Conv3D(2, 2, padding='same')", "layer(x)", [wave(1, 3, 4, 3, 2)]),
    ("L.Conv1DTranspose(3, 3, strides=2)", "layer(x)", [wave(2, 4, 2)]),
    ("L.Conv2DTranspose(3, 3, strides=2, padding='same')", "layer(x)", [wave(1, 3, 4, 2)]),
    ("L.Conv2DTranspose(2, 2, strides=3)", "layer(x)", [wave(1, 3, 3, 2)]),
    ("L.Conv3DTranspose(2, 2, strides=2)", "layer(x)", [wave(1, 2, 2, 2, 2)]),
    ("L.DepthwiseConv2D(3, depth_multiplier=2)", "layer(x)", [wave(1, 5, 5, 2)]),
    ("L.DepthwiseConv2D(2, strides=2, padding='same')", "layer(x)", [wave(1, 5, 5, 2)]),
    ("L.SeparableConv2D(4, 3, depth_multiplier=2)", "layer(x)", [wave(1, 5, 5, 2)]),
    # Pools.
    ("L.MaxPooling1D()", "layer(x)", [wave(2, 7, 2)]),
    ("L.MaxPooling2D(2, strides=1, padding='same')", "layer(x)", [wave(1, 4, 5, 2)]),
    ("L.MaxPooling2D(data_format='channels_first')", "layer(x)", [wave(1, 2, 4, 6)]),
    ("L.MaxPooling3D()", "layer(x)", [wave(1, 4, 4, 2, 2)]),
    ("L.AveragePooling1D(2)", "layer(x)", [wave(2, 6, 2)]),
    ("L.AveragePooling2D((2, 3), padding='same')", "layer(x)", [wave(1, 5, 5, 2)]),
    ("L.AveragePooling3D(2)", "layer(x)", [wave(1, 4, 2, 4, 2)]),
    ("L.GlobalMaxPooling1D()", "layer(x)", [wave(2, 5, 3)]),
    ("L.GlobalMaxPooling2D(keepdims=True)", "layer(x)", [wave(2, 3, 4, 2)]),
    ("L.GlobalMaxPooling3D()", "layer(x)", [wave(2, 2, 2, 3, 2)]),
    ("L.GlobalAveragePooling1D()", "layer(x, mask=y)", [wave(2, 4, 3), MASK]),
    ("L.GlobalAveragePooling2D('channels_first')", "layer(x)", [wave(2, 3, 4, 2)]),
    ("L.GlobalAveragePooling3D()", "layer(x)", [wave(2, 2, 2, 3, 2)]),
    # Normalisation.
    ("L.BatchNormalization()", "layer(x)", [wave(4, 3)]),
    ("L.BatchNormalization(momentum=0.9)", "layer(x, training=True)", [wave(4, 3, 2)]),
    ("L.BatchNormalization(axis=1)", "layer(x, training=True)", [wave(4, 3, 2)]),
    ("L.BatchNormalization()", "layer(x, training=True, mask=y)", [wave(2, 4, 3), MASK]),
    ("L.BatchNormalization(trainable=False)", "layer(x, training=True)", [wave(4, 3)]),
    ("L.LayerNormalization()", "layer(x)", [wave(2, 3, 4)]),
    ("L.LayerNormalization(axis=[1, 2])", "layer(x)", [wave(2, 3, 4)]),
    ("L.LayerNormalization(axis=1, center=False)", "layer(x)", [wave(2, 3, 4)]),
    ("L.GroupNormalization(2)", "layer(x)", [wave(2, 3, 4)]),
    ("L.GroupNormalization(-1, axis=1)", "layer(x)", [wave(2, 3, 4)]),
    ("L.RMSNormalization()", "layer(x)", [wave(2, 3, 4)]),
    ("L.UnitNormalization()", "layer(x)", [wave(2, 3, 4)]),
    ("L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])", "layer(x)", [wave(2, 3)]),
    ("L.Rescaling(0.5, offset=-1.0)", "layer(x)", [wave(2, 3)]),
    # Recurrent.
    ("L.SimpleRNN(3)", "layer(x)", [wave(2, 4, 2)]),
    ("L.SimpleRNN(3, return_sequences=True, go_backwards=True)", "layer(x)", [wave(2, 4, 2)]),
    ("L.LSTM(3)", "layer(x)", [wave(2, 4, 2)]),
    ("L.LSTM(3, return_sequences=True, return_state=True)", "layer(x)", [wave(2, 4, 2)]),
    ("L.LSTM(3)", "layer(x, initial_state=[y, z])", [wave(2, 4, 2), wave(2, 3), wave(2, 3)]),
    ("L.LSTM(3, return_sequences=True)", "layer(x, mask=y)", [wave(2, 4, 2), MASK]),
    (
        "L.LSTM(3, return_sequences=True, zero_output_for_mask=True)",
        "layer(x, mask=y)",
        [wave(2, 4, 2), MASK],
    ),
    ("L.LSTM(3, activation='relu', recurrent_activation='tanh', use_bias=False)", "layer(x)",
     [wave(2, 4, 2)]),
    ("L.GRU(3)", "layer(x)", [wave(2, 4, 2)]),
    ("L.GRU(3, reset_after=False, return_sequences=True)", "layer(x)", [wave(2, 4, 2)]),
    ("L.GRU(3, return_state=True)", "layer(x, mask=y)", [wave(2, 4, 2), MASK]),
    ("L.RNN([L.LSTMCell(3), L.GRUCell(2)])", "layer(x)", [wave(2, 4, 2)]),
    ("L.Bidirectional(L.LSTM(3))", "layer(x)", [wave(2, 4, 2)]),
    (
        "L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode='sum')",
        "layer(x)",
        [wave(2, 4, 2)],
    ),
    ("L.TimeDistributed(L.Dense(3))", "layer(x)", [wave(2, 4, 2)]),
    # Attention.
    ("L.MultiHeadAttention(2, 3)", "layer(x, y)", [wave(2, 3, 4), wave(2, 5, 4, start=0.5)]),
    (
        "L.MultiHeadAttention(2, 3, value_dim=2, output_shape=5)",
        "layer(x, y, z)",
        [wave(2, 3, 4), wave(2, 5, 4, start=0.5), wave(2, 5, 4, start=0.9)],
    ),
    ("L.MultiHeadAttention(2, 3)", "layer(x, x, use_causal_mask=True)", [wave(2, 4, 4)]),
    (
        "L.MultiHeadAttention(2, 3)",
        "layer(x, x, attention_mask=y, return_attention_scores=True)",
        [wave(2, 4, 4), np.tril(np.ones((2, 4, 4), bool), 1)],
    ),
    ("L.Attention()", "layer([x, y])", [wave(2, 3, 4), wave(2, 5, 4, start=0.5)]),
    (
        "L.Attention(use_scale=True, score_mode='concat')",
        "layer([x, y])",
        [wave(2, 3, 4), wave(2, 5, 4, start=0.5)],
    ),
    ("L.Attention()", "layer([x, x], use_causal_mask=True)", [wave(2, 4, 4)]),
    ("L.AdditiveAttention()", "layer([x, y])", [wave(2, 3, 4), wave(2, 5, 4, start=0.5)]),
    # Merging.
    *[
        (f"L.{name}()", "layer([x, y])", [wave(2, 3), wave(2, 3, start=0.5)])
        for name in ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"]
    ],
    ("L.Concatenate(axis=1)", "layer([x, y])", [wave(2, 3, 2), wave(2, 1, 2)]),
    ("L.Dot(1)", "layer([x, y])", [wave(2, 3), wave(2, 3, start=0.5)]),
    ("L.Dot((2, 1), normalize=True)", "layer([x, y])", [wave(2, 3, 4), wave(2, 4, 5)]),
    # Reshaping.
    ("L.Flatten()", "layer(x)", [wave(2, 3, 4)]),
    ("L.Flatten('channels_first')", "layer(x)", [wave(2, 3, 4)]),
    ("L.Reshape((-1, 2))", "layer(x)", [wave(2, 3, 4)]),
    ("L.Permute((2, 1))", "layer(x)", [wave(2, 3, 4)]),
    ("L.RepeatVector(3)", "layer(x)", [wave(2, 3)]),
    ("L.ZeroPadding1D((1, 2))", "layer(x)", [wave(2, 3, 2)]),
    ("L.ZeroPadding2D(((1, 0), (2, 1)))", "layer(x)", [wave(1, 2, 3, 2)]),
    ("L.ZeroPadding3D(1)", "layer(x)", [wave(1, 2, 1, 2, 2)]),
    ("L.Cropping1D((1, 0))", "layer(x)", [wave(2, 4, 2)]),
    ("L.Cropping2D(1)", "layer(x)", [wave(1, 4, 3, 2)]),
    ("L.Cropping3D()", "layer(x)", [wave(1, 3, 3, 3, 2)]),
    ("L.UpSampling1D(3)", "layer(x)", [wave(2, 2, 2)]),
    ("L.UpSampling2D((2, 3))", "layer(x)", [wave(1, 2, 3, 2)]),
    ("L.UpSampling2D(2, interpolation='bilinear')", "layer(x)", [wave(1, 2, 3, 2)]),
    ("L.UpSampling3D()", "layer(x)", [wave(1, 2, 1, 2, 2)]),
    ("L.SeparableConv1D(4, 3, depth_multiplier=2, strides=2)", "layer(x)", [wave(2, 7, 2)]),
    ("L.DepthwiseConv1D(3, depth_multiplier=2, padding='same')", "layer(x)", [wave(2, 6, 2)]),
    ("L.DepthwiseConv1D(2, strides=2, data_format='channels_first')", "layer(x)",
     [wave(2, 2, 6)]),
    ("L.SeparableConv2D(3, (2, 3), padding='same', dilation_rate=2)", "layer(x)",
     [wave(1, 5, 5, 2)]),
    ("L.Conv3DTranspose(2, 2, 2, 'same', 'channels_last', 1)", "layer(x)", [wave(1, 2, 2, 2, 1)]),
    # Convolutions in time.
    ("L.ConvLSTM1D(2, 3, return_sequences=True)", "layer(x)", [wave(2, 3, 6, 2)]),
    ("L.ConvLSTM2D(2, (2, 3), padding='same', strides=2)", "layer(x)", [wave(1, 3, 5, 4, 2)]),
    ("L.ConvLSTM2D(2, 2, dilation_rate=2, return_state=True)", "layer(x)", [wave(1, 2, 5, 5, 1)]),
    ("L.ConvLSTM2D(2, 2, go_backwards=True, return_sequences=True)", "layer(x, mask=y)",
     [wave(2, 4, 3, 3, 1), MASK]),
    ("L.ConvLSTM3D(1, 2)", "layer(x)", [wave(1, 2, 3, 3, 3, 1)]),
    # Pools of a size.
    ("L.AdaptiveAveragePooling1D(3)", "layer(x)", [wave(2, 7, 2)]),
    ("L.AdaptiveAveragePooling2D((2, 3))", "layer(x)", [wave(1, 5, 7, 2)]),
    ("L.AdaptiveAveragePooling2D(4)", "layer(x)", [wave(1, 5, 6, 1)]),
    ("L.AdaptiveAveragePooling3D(2)", "layer(x)", [wave(1, 3, 4, 5, 1)]),
    ("L.AdaptiveMaxPooling1D(2)", "layer(x)", [wave(2, 5, 2)]),
    ("L.AdaptiveMaxPooling2D(3, 'channels_first')", "layer(x)", [wave(1, 2, 5, 4)]),
    ("L.AdaptiveMaxPooling3D((1, 2, 3))", "layer(x)", [wave(1, 3, 4, 5, 1)]),
    # Attention over other axes, and with shared keys.
    ("L.MultiHeadAttention(2, 3, attention_axes=2)", "layer(x, y)",
     [wave(2, 3, 4, 2), wave(2, 3, 5, 2, start=0.5)]),
    ("L.MultiHeadAttention(2, 3, attention_axes=(1, 2))",
     "layer(x, y, return_attention_scores=True)",
     [wave(2, 3, 2, 2), wave(2, 2, 3, 2, start=0.5)]),
    ("L.MultiHeadAttention(1, 2)", "layer(x, x)", [wave(1, 2, 3, 2)]),
    ("L.MultiHeadAttention(2, 3, use_gate=True, sliding_window=2)", "layer(x, x)",
     [wave(2, 4, 4)]),
    ("L.GroupQueryAttention(3, 4, 2)", "layer(x, y)", [wave(2, 3, 4), wave(2, 5, 4, start=0.5)]),
    ("L.GroupQueryAttention(3, 4, 1, use_gate=True, sliding_window=2)",
     "layer(x, x, use_causal_mask=True, return_attention_scores=True)", [wave(2, 4, 4)]),
    # Numbers and images.
    ("L.ReversibleEmbedding(4, 3)", "layer(x)", [IDS]),
    ("L.ReversibleEmbedding(4, 3, tie_weights=False, logit_soft_cap=0.5)",
     "layer(x, reverse=True)", [wave(2, 3)]),
    ("L.SpectralNormalization(L.Dense(3))", "layer(x)", [wave(2, 4)]),
    ("L.SpectralNormalization(L.Conv2D(3, 2), power_iterations=3)", "layer(x, training=True)",
     [wave(1, 3, 3, 2)]),
    *[
        (f"L.CategoryEncoding(4, output_mode='{mode}')", "layer(x)", [IDS])
        for mode in ("multi_hot", "count")
    ],
    ("L.CategoryEncoding(4, output_mode='one_hot')", "layer(x)", [IDS[:, :1]]),
    ("L.CategoryEncoding(4, output_mode='count')", "layer(x, count_weights=y)", [IDS, IDS]),
    *[
        (f"L.Discretization([-0.5, 0.0, 0.4], output_mode='{mode}')", "layer(x)",
         [np.array([[-0.5, 0.39], [0.4, 7.0]])])
        for mode in ("int", "multi_hot", "count")
    ],
    ("L.Resizing(3, 5)", "layer(x)", [wave(2, 4, 6, 2)]),
    ("L.Resizing(4, 2, interpolation='nearest')", "layer(x)", [wave(3, 6, 2)]),
    ("L.Resizing(4, 4, crop_to_aspect_ratio=True)", "layer(x)", [wave(1, 5, 8, 1)]),
    ("L.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=0.5)", "layer(x)",
     [wave(1, 4, 8, 1)]),
    ("L.CenterCrop(2, 3)", "layer(x)", [wave(1, 5, 6, 2)]),
    ("L.CenterCrop(4, 4)", "layer(x)", [wave(1, 3, 6, 1)]),
    # Changes at random, between bounds that leave no choice.
    ("L.RandomBrightness((0.2, 0.2), (-1.0, 1.0))", "layer(x, training=True)",
     [wave(2, 3, 3, 3)]),
    ("L.RandomContrast((0.0, 0.0), (-1.0, 1.0))", "layer(x, training=True)", [wave(2, 3, 3, 3)]),
    # Of whole numbers: TensorFlow's gradient of these is an approximation.
    *[
        (f"L.RandomRotation((0.1, 0.1), fill_mode='{mode}', fill_value=0.3)",
         "layer(x, training=True)", [pixels(1, 4, 5, 2)])
        for mode in ("reflect", "constant", "nearest")
    ],
    ("L.RandomRotation((0.25, 0.25), interpolation='nearest')", "layer(x, training=True)",
     [pixels(1, 4, 4, 1)]),
    ("L.RandomZoom((0.5, 0.5), (0.2, 0.2))", "layer(x, training=True)", [pixels(1, 4, 5, 2)]),
    ("L.RandomZoom((-0.4, -0.4), fill_mode='constant')", "layer(x, training=True)",
     [pixels(1, 4, 5, 2)]),
    ("L.RandomTranslation((0.3, 0.3), (-0.2, -0.2))", "layer(x, training=True)",
     [pixels(1, 5, 4, 2)]),
    ("L.RandomTranslation((0.3, 0.3), (-0.2, -0.2), fill_mode='constant', fill_value=0.3)",
     "layer(x, training=True)", [pixels(1, 5, 4, 2)]),
    ("L.RandomFlip()", "layer(x, training=False)", [pixels(1, 3, 4, 1)]),
    ("L.RandomCrop(2, 3)", "layer(x, training=False)", [pixels(1, 5, 4, 1)]),
    # What is noise while training is nothing otherwise.
    *[
        (f"L.{name}(0.3)", "layer(x)", [wave(2, 3, 2)])
        for name in ["Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"]
    ],
]  # fmt: skip

_REAL = [wave(4, 3), wave(4, 3, start=0.4)]
_SHARES = [np.abs(wave(4, 3)) / 1.0, 0.5 + 0.5 * wave(4, 3, start=0.4)]
_BITS = [(wave(4, 3) > 0).astype(np.float32), 0.5 + 0.5 * wave(4, 3, start=0.4)]
_HOT = [np.eye(3, dtype=np.float32)[[0, 2, 1, 1]], np.exp(wave(4, 3)) / 4.0]
_CLASSES = [np.array([0, 2, 1, 1]), np.exp(wave(4, 3)) / 4.0]
_LOGITS = [np.array([0, 2, 1, 1]), 3.0 * wave(4, 3)]
_WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0], np.float32)

_UNIT = wave(4, 3) / np.linalg.norm(wave(4, 3), axis=1, keepdims=True)

# Constructor, targets and predictions. The names: K for keras.losses.
LOSSES: list[tuple[str, list[Any]]] = [
    ("K.MeanSquaredError()", _REAL),
    ("K.MeanSquaredError(reduction='sum')", _REAL),
    ("K.MeanSquaredError(reduction=None)", _REAL),
    ("K.MeanSquaredError(reduction='mean_with_sample_weight')", _REAL),
    ("K.MeanSquaredError()", [wave(4), wave(4, 1, start=0.3)]),
    ("K.MeanAbsoluteError()", _REAL),
    ("K.MeanAbsolutePercentageError()", _REAL),
    ("K.MeanSquaredLogarithmicError()", _SHARES),
    ("K.CosineSimilarity()", _REAL),
    ("K.CosineSimilarity(axis=0)", _REAL),
    ("K.Huber()", [3.0 * x for x in _REAL]),
    ("K.Huber(0.2)", _REAL),
    ("K.LogCosh()", _REAL),
    ("K.KLDivergence()", _SHARES),
    ("K.Poisson()", _SHARES),
    ("K.Hinge()", [np.sign(_REAL[0]), _REAL[1]]),
    ("K.Hinge()", _BITS),
    ("K.SquaredHinge()", [np.sign(_REAL[0]), _REAL[1]]),
    ("K.CategoricalHinge()", _HOT),
    ("K.BinaryCrossentropy()", _BITS),
    ("K.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)", [_BITS[0], _REAL[1]]),
    ("K.BinaryFocalCrossentropy()", _BITS),
    ("K.BinaryFocalCrossentropy(True, 0.3, 1.5, from_logits=True)", [_BITS[0], _REAL[1]]),
    ("K.CategoricalCrossentropy()", _HOT),
    ("K.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)", _HOT),
    ("K.CategoricalFocalCrossentropy()", _HOT),
    ("K.CategoricalGeneralizedCrossEntropy(0.7)", _CLASSES),
    ("K.SparseCategoricalCrossentropy()", _CLASSES),
    ("K.SparseCategoricalCrossentropy(from_logits=True)", _LOGITS),
    ("K.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1)", _LOGITS),
    ("K.Dice()", _BITS),
    ("K.Tversky(0.3, 0.7)", _BITS),
    ("K.Dice('sum', 'dice', (0, 1))", _BITS),
    ("K.Tversky(0.3, 0.7, 'sum', 'tversky', (1,))", _BITS),
    (
        "K.SparseCategoricalCrossentropy(True, None, 'sum', -1)",
        _LOGITS,
    ),
    ("K.Circle()", [np.array([0, 1, 1, 0]), _UNIT]),
    ("K.Circle(2.0, 0.25, False, 'sum')", [np.array([0, 1, 1, 2]), _UNIT]),
]

# Constructor, targets and predictions. The names: K for keras.metrics.
METRICS: list[tuple[str, list[Any]]] = [
    ("K.Accuracy()", [np.array([0, 1, 2, 3]), np.array([0, 1, 1, 3])]),
    ("K.BinaryAccuracy()", _BITS),
    ("K.BinaryAccuracy(threshold=0.7)", _BITS),
    ("K.CategoricalAccuracy()", _HOT),
    ("K.SparseCategoricalAccuracy()", _CLASSES),
    ("K.TopKCategoricalAccuracy(2)", _HOT),
    ("K.SparseTopKCategoricalAccuracy(k=2)", _CLASSES),
    ("K.MeanSquaredError()", _REAL),
    ("K.RootMeanSquaredError()", _REAL),
    ("K.MeanAbsoluteError()", _REAL),
    ("K.MeanAbsolutePercentageError()", _REAL),
    ("K.MeanSquaredLogarithmicError()", _SHARES),
    ("K.CosineSimilarity()", _REAL),
    ("K.LogCoshError()", _REAL),
    ("K.KLDivergence()", _SHARES),
    ("K.Poisson()", _SHARES),
    ("K.Hinge()", _BITS),
    ("K.SquaredHinge()", _BITS),
    ("K.CategoricalHinge()", _HOT),
    ("K.BinaryCrossentropy()", _BITS),
    ("K.CategoricalCrossentropy()", _HOT),
    ("K.SparseCategoricalCrossentropy(from_logits=True)", _LOGITS),
    ("K.TruePositives()", _BITS),
    ("K.TrueNegatives(0.3)", _BITS),
    ("K.FalsePositives([0.2, 0.8])", _BITS),
    ("K.FalseNegatives()", _BITS),
    ("K.Precision()", _BITS),
    ("K.Precision(thresholds=[0.3, 0.6])", _BITS),
    ("K.Precision(top_k=1)", _HOT),
    ("K.Recall(class_id=1)", _BITS),
    ("K.AUC()", _BITS),
    ("K.AUC(num_thresholds=11, curve='PR')", _BITS),
    ("K.AUC(curve='PR', summation_method='majoring')", _BITS),
    ("K.AUC(summation_method='minoring', from_logits=True)", [_BITS[0], _REAL[1]]),
    ("K.PrecisionAtRecall(0.6, num_thresholds=9)", _BITS),
    ("K.RecallAtPrecision(0.8)", _BITS),
    ("K.SensitivityAtSpecificity(0.5, num_thresholds=5)", _BITS),
    ("K.SpecificityAtSensitivity(0.7)", _BITS),
    ("K.MeanIoU(3, dtype='float32')", [np.array([0, 2, 1, 1]), np.array([0, 1, 1, 2])]),
    (
        "K.IoU(4, [1, 3], dtype='float32', ignore_class=0)",
        [np.array([0, 2, 1, 1]), np.array([0, 1, 1, 2])],
    ),
    ("K.BinaryIoU([1], 0.4, dtype='float32')", [_BITS[0][:, 0], _BITS[1][:, 0]]),
    ("K.OneHotIoU(3, [0, 2], dtype='float32')", _HOT),
    ("K.OneHotMeanIoU(3, dtype='float32')", _HOT),
    ("K.F1Score()", _HOT),
    ("K.F1Score('macro', 0.3)", _BITS),
    ("K.FBetaScore('weighted', 2.0)", _HOT),
    ("K.FBetaScore('micro', 0.5, 0.4)", _BITS),
    ("K.R2Score()", _REAL),
    ("K.R2Score('variance_weighted_average')", _REAL),
    ("K.R2Score(num_regressors=2)", _REAL),
    ("K.R2Score(None, 3)", _REAL),
    ("K.AUC(multi_label=True)", _BITS),
    ("K.AUC(curve='PR', multi_label=True, num_labels=3, label_weights=[1.0, 2.0, 0.5])", _BITS),
    ("K.AUC(num_thresholds=9, label_weights=[1.0, 2.0, 0.5])", _BITS),
    ("K.PearsonCorrelation()", _REAL),
    ("K.PearsonCorrelation(axis=0)", [x.T for x in _REAL]),
    ("K.ConcordanceCorrelation()", _REAL),
]

# What training is told besides x, y, the number of epochs, no shuffling and batches of four.
FITS: list[tuple[str, str, str]] = [
    (
        "[L.Dense(4, activation='tanh', kernel_regularizer='l2'), L.Dense(3)]",
        "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy']",
        "validation_split=0.25",
    ),
    (
        "[L.Dense(4, kernel_constraint='max_norm', activity_regularizer='l1'),"
        " L.BatchNormalization(), L.Dense(3, activation='softmax')]",
        "loss='sparse_categorical_crossentropy', weighted_metrics=['accuracy']",
        "class_weight={0: 1.0, 1: 0.5, 2: 2.0}",
    ),
    (
        "[L.Reshape((5, 1)), L.LSTM(3), L.Dense(1)]",
        "loss='mse', metrics=['mae']",
        "sample_weight=np.linspace(0.0, 2.0, 16)",
    ),
    (
        "[L.Dense(3, bias_regularizer=keras.regularizers.L1L2(0.1, 0.2)), L.PReLU(),"
        " L.Dense(1, kernel_constraint=keras.constraints.NonNeg())]",
        "loss=keras.losses.Huber(0.5), loss_weights=0.5",
        "validation_data=(x[:6], y[:6]), validation_batch_size=3",
    ),
]
