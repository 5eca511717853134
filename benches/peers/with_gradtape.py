"""Our side, from Python through gRPC: the server is the one at GRADTAPE_ADDRESS."""

import functools
import sys
import time

import gradtape as tf
import numpy as np

import _contend
import _keras


def eager(make, quick):
    """A model, trained eagerly."""
    return _keras.trained(tf, make, quick, "eager commands, batches resident in the session")


def tensors(quick):
    """Sends and reads back 64 MiB."""
    array = np.ones(16 << 20, np.float32)

    def sample():
        start = time.perf_counter()
        tensor = tf.constant(array)
        tf.synchronize()
        sent = time.perf_counter()
        tensor.numpy()
        return {
            "upload": array.nbytes / (sent - start),
            "download": array.nbytes / (time.perf_counter() - sent),
        }

    sample()
    return _contend.Contender(sample, note="warm-up one transfer each way")


CONTENDERS = {
    ("seed", "python-eager"): lambda quick: _keras.seed_eager(tf),
    ("tensors", "python"): tensors,
    **{
        (bench, "python-eager"): functools.partial(eager, make)
        for bench, make in _keras.MODELS.items()
    },
}

if __name__ == "__main__":
    _contend.main(CONTENDERS, {"gradtape": tf.__version__, "python": sys.version.split()[0]})
