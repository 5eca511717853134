"""Models that are written and read by Keras and by this package; see `exchange.py`."""

from __future__ import annotations


def _functional(layers: str) -> str:
    """A functional model of one input of shape [6, 4] and a chain of layers."""
    return (
        "(lambda x: K.Model(x, __import__('functools').reduce(lambda h, layer: layer(h), "
        f"[{layers}], x)))(K.Input((6, 4)))"
    )


# Models by name: what makes them, and the shape of an example. K is keras, L its layers.
MODELS: dict[str, tuple[str, tuple[int, ...]]] = {
    "dense": (
        "K.Sequential([K.Input((4,)), L.Dense(5, 'relu', kernel_regularizer='l2'),"
        " L.Dropout(0.5), L.BatchNormalization(), L.Dense(3, 'softmax')])",
        (4,),
    ),
    "images": (
        "K.Sequential([K.Input((8, 8, 2)), L.Rescaling(0.5), L.Conv2D(3, 3, padding='same'),"
        " L.LeakyReLU(), L.MaxPooling2D(), L.DepthwiseConv2D(2), L.SeparableConv2D(4, 2),"
        " L.GroupNormalization(2), L.Conv2DTranspose(2, 2, strides=2), L.PReLU(shared_axes=[1, 2]),"
        " L.GlobalAveragePooling2D(), L.UnitNormalization()])",
        (8, 8, 2),
    ),
    "recurrent": (
        _functional(
            "L.LSTM(3, return_sequences=True), L.Bidirectional(L.GRU(2, return_sequences=True)),"
            " L.SpatialDropout1D(0.2), L.TimeDistributed(L.Dense(3, activation='tanh')),"
            " L.RNN([L.LSTMCell(3), L.GRUCell(2)]), L.Reshape((2, 1)), L.Flatten()"
        ),
        (6, 4),
    ),
    "attention": (
        "(lambda x: (lambda a: K.Model(x, L.Dense(2)(L.Flatten()(L.LayerNormalization()("
        "L.Add()([x, a]))))))(L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)))"
        "(K.Input((6, 4)))",
        (6, 4),
    ),
    "nested": (
        "(lambda x, inner: K.Model(x, L.Concatenate()([inner(x), inner(x * 2.0), 1.0 - x])))"
        "(K.Input((4,)), K.Sequential([K.Input((4,)), L.Dense(3), L.Dense(2)]))",
        (4,),
    ),
    "normalised": (
        "K.Sequential([K.Input((4,)), L.Normalization(mean=0.5, variance=2.0),"
        " L.EinsumDense('ab,bc->ac', 3, bias_axes='c'), L.Activation('gelu')])",
        (4,),
    ),
    "grouped": (
        "(lambda x: K.Model(x, L.GlobalMaxPooling1D()(L.GroupQueryAttention(3, 4, 2)(x, x))))"
        "(K.Input((6, 4)))",
        (6, 4),
    ),
}
