"""Layers: functions with variables, made on the first call."""

from gradtape.keras.layers.activation import (
    ELU as ELU,
    Activation as Activation,
    LeakyReLU as LeakyReLU,
    PReLU as PReLU,
    ReLU as ReLU,
    Softmax as Softmax,
    ThresholdedReLU as ThresholdedReLU,
)
from gradtape.keras.layers.adaptive_pooling import *
from gradtape.keras.layers.attention import (
    AdditiveAttention as AdditiveAttention,
    Attention as Attention,
    MultiHeadAttention as MultiHeadAttention,
)
from gradtape.keras.layers.augmentation import *
from gradtape.keras.layers.base import Layer as Layer
from gradtape.keras.layers.cells import (
    GRUCell as GRUCell,
    LSTMCell as LSTMCell,
    SimpleRNNCell as SimpleRNNCell,
    StackedRNNCells as StackedRNNCells,
)
from gradtape.keras.layers.conv_recurrent import *
from gradtape.keras.layers.convolutional import *
from gradtape.keras.layers.core import (
    Dense as Dense,
    EinsumDense as EinsumDense,
    Embedding as Embedding,
    Identity as Identity,
    Input as Input,
    InputLayer as InputLayer,
    Lambda as Lambda,
    Masking as Masking,
    ReversibleEmbedding as ReversibleEmbedding,
)
from gradtape.keras.layers.grouped_attention import GroupQueryAttention as GroupQueryAttention
from gradtape.keras.layers.input_spec import InputSpec as InputSpec
from gradtape.keras.layers.merging import *
from gradtape.keras.layers.normalization import (
    BatchNormalization as BatchNormalization,
    GroupNormalization as GroupNormalization,
    LayerNormalization as LayerNormalization,
    Normalization as Normalization,
    RMSNormalization as RMSNormalization,
    UnitNormalization as UnitNormalization,
)
from gradtape.keras.layers.pooling import *
from gradtape.keras.layers.preprocessing import (
    CategoryEncoding as CategoryEncoding,
    CenterCrop as CenterCrop,
    Discretization as Discretization,
    Resizing as Resizing,
)
from gradtape.keras.layers.recurrent import (
    GRU as GRU,
    LSTM as LSTM,
    RNN as RNN,
    Bidirectional as Bidirectional,
    SimpleRNN as SimpleRNN,
    TimeDistributed as TimeDistributed,
)
from gradtape.keras.layers.regularization import (
    ActivityRegularization as ActivityRegularization,
    AlphaDropout as AlphaDropout,
    Dropout as Dropout,
    GaussianDropout as GaussianDropout,
    GaussianNoise as GaussianNoise,
    SpatialDropout1D as SpatialDropout1D,
    SpatialDropout2D as SpatialDropout2D,
    SpatialDropout3D as SpatialDropout3D,
)
from gradtape.keras.layers.reshaping import *
from gradtape.keras.layers.separable import *
from gradtape.keras.layers.wrappers import (
    SpectralNormalization as SpectralNormalization,
    Wrapper as Wrapper,
)
from gradtape.keras.serialization import (
    deserialize_keras_object as deserialize,
    serialize as serialize,
)
