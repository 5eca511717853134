"""Recomputes the golden numbers of this folder in TensorFlow and Keras from the inputs that the files hold.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1
    /tmp/venv/bin/python tests/golden/check.py
"""

import functools
import json
import os
import pathlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

HERE = pathlib.Path(__file__).parent
keras, math, nn, linalg, image = tf.keras, tf.math, tf.nn, tf.linalg, tf.image


def conv(strides, padding, dilations=1):
    return functools.partial(nn.conv2d, strides=strides, padding=padding, dilations=dilations)


def batch_norm(x, scale, offset):
    mean, variance = nn.moments(x, [0])
    return nn.batch_normalization(x, mean, variance, offset, scale, 1e-3)


def layer_norm(x, scale, offset):
    mean, variance = nn.moments(x, [1], keepdims=True)
    return nn.batch_normalization(x, mean, variance, offset, scale, 1e-5)


SAME_NAME = "maximum minimum subtract multiply add divide negative exp square sigmoid tanh sin cos abs sign sqrt".split()
OPS = {name: getattr(tf, name) for name in SAME_NAME}
OPS |= {
    name: getattr(math, name)
    for name in "squared_difference pow floormod atan2 softplus erf expm1 rsqrt log log1p reciprocal lgamma digamma cumsum cumprod".split()
}
OPS |= {
    name: getattr(nn, name)
    for name in "relu relu6 elu selu silu softsign gelu log_softmax softmax leaky_relu bias_add".split()
}
OPS |= {
    f"reduce_{name}_axis1": functools.partial(getattr(math, f"reduce_{name}"), axis=1)
    for name in "sum mean max min prod logsumexp variance std".split()
}
OPS |= {
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "matmul": tf.matmul,
    "matmul_ta": functools.partial(tf.matmul, transpose_a=True),
    "matmul_tb": functools.partial(tf.matmul, transpose_b=True),
    "batch_matmul_bcast": tf.matmul,
    "l2_norm": tf.norm,
    "cumsum_rev_excl": functools.partial(tf.cumsum, exclusive=True, reverse=True),
    "reshape": lambda x: tf.reshape(x, [3, 2]),
    "concat": lambda a, b: tf.concat([a, b], 1),
    "stack": lambda a, b: tf.stack([a, b], 1),
    "pad_reflect": lambda x: tf.pad(x, [[1, 1]], "REFLECT"),
    "slice_strided": lambda x: x[::-1, 1:3],
    "tile": lambda x: tf.tile(x, [2, 3]),
    "broadcast_to": lambda x: tf.broadcast_to(x, [3, 2]),
    "cast_roundtrip_f64": lambda x: tf.cast(tf.cast(x, tf.float64) ** 2, tf.float32),
    "einsum_bhqk": lambda a, b: tf.einsum("bqhd,bkhd->bhqk", a, b),
    "einsum_trace": lambda a: tf.einsum("ii->i", a),
    "sort": tf.sort,
    "top_k2": lambda x: math.top_k(x, 2).values,
    "reverse": lambda x: tf.reverse(x, [0]),
    "conv2d_same_s1": conv(1, "SAME"),
    "conv2d_valid_s2": conv(2, "VALID"),
    "conv2d_same_s2_even": conv(2, "SAME"),
    "conv2d_dil2": conv(1, "VALID", 2),
    "depthwise": lambda x, f: nn.depthwise_conv2d(x, f, [1, 1, 1, 1], "SAME"),
    "conv2d_transpose": lambda x, f: nn.conv2d_transpose(x, f, [1, 4, 4, 1], 2, "SAME"),
    "max_pool": lambda x: nn.max_pool2d(x, 2, 2, "VALID"),
    "max_pool_same3": lambda x: nn.max_pool2d(x, 3, 2, "SAME"),
    "avg_pool_same3": lambda x: nn.avg_pool2d(x, 3, 2, "SAME"),
    "xent": lambda a, b: nn.softmax_cross_entropy_with_logits(labels=a, logits=b),
    "sigmoid_xent": lambda a, b: nn.sigmoid_cross_entropy_with_logits(labels=a, logits=b),
    "batch_norm_train": batch_norm,
    "layer_norm": layer_norm,
    "fused_bn_train": lambda x, s, o: tf.compat.v1.nn.fused_batch_norm(x, s, o)[0],
    "cholesky": linalg.cholesky,
    "inv": linalg.inv,
    "solve": linalg.solve,
    "det": linalg.det,
    "triangular_solve": linalg.triangular_solve,
    "diag_part": linalg.diag_part,
    "space_to_depth": lambda x: nn.space_to_depth(x, 2),
    "resize_bilinear2x": lambda x: image.resize(x, [4, 4], "bilinear"),
    "resize_nearest2x": lambda x: image.resize(x, [4, 4], "nearest"),
}
# The files leave static arguments of some ops out; all values that fit the shapes are tried.
CHOICES = {
    "transpose": [lambda x, p=p: tf.transpose(x, p) for p in ([1, 0, 2], [1, 2, 0], [2, 1, 0])],
    "pad_const": [lambda x, p=p: tf.pad(x, p, constant_values=v) for p in ([[1, 0], [0, 2]], [[1, 0], [1, 1]], [[0, 1], [1, 1]], [[0, 1], [2, 0]], [[1, 0], [2, 0]], [[0, 1], [0, 2]]) for v in (0.0,)],
    "pad_symmetric": [lambda x, p=p: tf.pad(x, [p], "SYMMETRIC") for p in ([1, 2], [2, 1], [0, 3], [3, 0])],
    "where": [
        lambda a, b, c=c: tf.where(np.reshape(c, [2, 2]), a, b) for c in np.ndindex(2, 2, 2, 2)
    ],
    "clip": [lambda x, c=c: tf.clip_by_value(x, -c, c) for c in (0.5, 1.0, 0.3)] + [lambda x: tf.clip_by_value(x, 0.0, 1.0)],
    "gather_ax1": [lambda x, i=i: tf.gather(x, i, axis=1) for i in np.ndindex(3, 3, 3)],
    "gather_dup": [lambda x, i=i: tf.gather(x, i) for i in np.ndindex(3, 3, 3)],
    "gather_nd": [lambda x, i=i: tf.gather_nd(x, [i[:2], i[2:]]) for i in np.ndindex(2, 2, 2, 2)],
    "roll": [lambda x, s=s: tf.roll(x, s, 0) for s in (1, 2, 3)],
    "sparse_xent": [lambda x, i=i: nn.sparse_softmax_cross_entropy_with_logits(i, x) for i in np.ndindex(3, 3)],
    "band_part": [lambda x, b=b: linalg.band_part(x, *b) for b in ((1, 0), (0, 1), (1, 1), (0, -1), (-1, 0), (0, 0), (1, -1), (-1, 1))],
    "segment_sum": [lambda x, i=i: math.segment_sum(x, i) for i in ([0, 0, 1], [0, 1, 1])],
    "segment_mean": [lambda x, i=i: math.segment_mean(x, i) for i in ([0, 0, 1], [0, 1, 1])],
    "unsorted_segment_sum": [lambda x, i=i: math.unsorted_segment_sum(x, i, 3) for i in np.ndindex(3, 3, 3)],
    "scatter_nd": [lambda x, i=i: tf.scatter_nd(np.reshape(i, [3, 1]), x, [3]) for i in np.ndindex(3, 3, 3)],
    "depthwise": [OPS["depthwise"], lambda x, f: nn.depthwise_conv2d(x, f, [1, 1, 1, 1], "VALID")],
    "triangular_solve": [linalg.triangular_solve, lambda a, b: linalg.triangular_solve(linalg.band_part(a, -1, 0), b)],
    "cast_roundtrip_f64": [OPS["cast_roundtrip_f64"], lambda x: tf.cast(tf.cast(x, tf.float64), tf.float32), lambda x: tf.cast(tf.sin(tf.cast(x, tf.float64)), tf.float32)],
    "cholesky": [linalg.cholesky, lambda a: linalg.cholesky(a @ tf.transpose(a) + tf.eye(2)), lambda a: linalg.cholesky((a + tf.transpose(a)) / 2)],
    "batch_norm_train": [batch_norm, lambda x, s, o: nn.batch_normalization(x, *nn.moments(x, [0]), o, s, 1e-5)],
    "layer_norm": [layer_norm, lambda x, s, o: nn.batch_normalization(x, *nn.moments(x, [1], keepdims=True), o, s, 1e-3), lambda x, s, o: nn.batch_normalization(x, *nn.moments(x, [1], keepdims=True), o, s, 1e-6)],
}


def close(actual, expected):
    return np.allclose(np.asarray(actual).ravel(), expected, rtol=2e-5, atol=2e-6, equal_nan=True)


def reproduces(case, function):
    inputs = [tf.constant(np.reshape(i["data"], i["shape"]), i["dtype"]) for i in case["inputs"]]
    try:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = function(*inputs, **case["attrs"]) if case["op"] in ("leaky_relu",) else function(*inputs)
        seed = tf.reshape(tf.constant(case["upstream"], output.dtype), output.shape)
        gradients = tape.gradient(output, inputs, seed)
    except (ValueError, TypeError, tf.errors.OpError):
        return False
    if list(output.shape) != case["output"]["shape"] or not close(output, case["output"]["data"]):
        return False
    return all(
        (gradient is None) == (wanted is None) and (wanted is None or close(tf.convert_to_tensor(gradient), wanted["data"]))
        for gradient, wanted in zip(gradients, case["grads"], strict=True)
    )


def check_gradients():
    """Each case needs one function of the candidates that gives its output and all its gradients."""
    cases = json.loads((HERE / "grads.json").read_text())["cases"]
    return [case["op"] for case in cases if not any(reproduces(case, f) for f in CHOICES.get(case["op"]) or [OPS[case["op"]]])]


CLASSES = {
    "sgd": "SGD", "adamw": "AdamW", "adam": "Adam", "rmsprop": "RMSprop", "adagrad": "Adagrad", "adadelta": "Adadelta",
    "adamax": "Adamax", "nadam": "Nadam", "ftrl": "Ftrl", "lion": "Lion", "lamb": "Lamb", "adafactor": "Adafactor",
    "muon": "Muon",
}  # fmt: skip


def check_optimizers():
    golden = json.loads((HERE / "optimizers.json").read_text())
    failed = []
    for name, case in golden.items():
        if not isinstance(case, dict):
            continue
        config = dict(case["config"])
        # The file leaves the schedule out.
        config.setdefault("learning_rate", keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5))
        optimizer = getattr(keras.optimizers, CLASSES[name.split("_")[0]]).from_config(config)
        variable = keras.Variable(np.reshape(golden["init"], golden["shape"]).astype("float32"), name="w")
        for gradient, wanted in zip(golden["grads"], case["traj"]):
            optimizer.apply([tf.constant(np.reshape(gradient, golden["shape"]), tf.float32)], [variable])
            if not close(variable, wanted):
                failed.append(name)
                break
    return failed


def check_schedules():
    made = keras.optimizers.schedules
    schedules = {
        "exp": made.ExponentialDecay(0.1, 100, 0.5),
        "exp_stair": made.ExponentialDecay(0.1, 100, 0.5, staircase=True),
        "pw": made.PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.1]),
        "poly": made.PolynomialDecay(0.1, 100, 0.01, power=2.0),
        "poly_cycle": made.PolynomialDecay(0.1, 100, 0.01, cycle=True),
        "inv": made.InverseTimeDecay(0.1, 100, 0.5),
        "inv_stair": made.InverseTimeDecay(0.1, 100, 0.5, staircase=True),
        "cos": made.CosineDecay(0.1, 100, alpha=0.1),
        "cos_warm": made.CosineDecay(0.0, 100, alpha=0.1, warmup_target=0.1, warmup_steps=50),
        "cosr": made.CosineDecayRestarts(0.1, 100, alpha=0.1, m_mul=0.5),
    }
    golden = json.loads((HERE / "schedules.json").read_text())
    return [name for name, steps in golden.items() if not all(close(schedules[name](int(s)), v) for s, v in steps.items())]


def main():
    failures = 0
    for check in (check_gradients, check_optimizers, check_schedules):
        failed = check()
        failures += len(failed)
        print(f"{check.__name__}: {', '.join(failed) or 'all agree'}")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
