"""Sequences of different lengths as arrays."""

from gradtape.keras.utils import pad_sequences

__all__ = ["pad_sequences"]
