"""What TensorFlow keeps under `tf.experimental` and this package has too."""

from gradtape.experimental import dlpack

__all__ = ["dlpack"]
