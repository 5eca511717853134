"""The functions of `keras.preprocessing` that need no files."""

from gradtape.keras.preprocessing import sequence
from gradtape.keras.utils import timeseries_dataset_from_array
