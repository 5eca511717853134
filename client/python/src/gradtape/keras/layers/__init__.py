"""Layers: functions with variables, made on the first call."""

from gradtape.keras.layers.activation import (
    ELU,
    Activation,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
    ThresholdedReLU,
)
from gradtape.keras.layers.adaptive_pooling import *
from gradtape.keras.layers.attention import AdditiveAttention, Attention, MultiHeadAttention
from gradtape.keras.layers.augmentation import *
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from gradtape.keras.layers.conv_recurrent import *
from gradtape.keras.layers.convolutional import *
from gradtape.keras.layers.core import (
    Dense,
    EinsumDense,
    Embedding,
    Identity,
    Input,
    InputLayer,
    Lambda,
    Masking,
    ReversibleEmbedding,
)
from gradtape.keras.layers.grouped_attention import GroupQueryAttention
from gradtape.keras.layers.input_spec import InputSpec
from gradtape.keras.layers.merging import *
from gradtape.keras.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    Normalization,
    RMSNormalization,
    UnitNormalization,
)
from gradtape.keras.layers.pooling import *
from gradtape.keras.layers.preprocessing import (
    CategoryEncoding,
    CenterCrop,
    Discretization,
    Resizing,
)
from gradtape.keras.layers.recurrent import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    SimpleRNN,
    TimeDistributed,
)
from gradtape.keras.layers.regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from gradtape.keras.layers.reshaping import *
from gradtape.keras.layers.separable import *
from gradtape.keras.layers.wrappers import SpectralNormalization, Wrapper
from gradtape.keras.serialization import deserialize_keras_object as deserialize
from gradtape.keras.serialization import serialize
