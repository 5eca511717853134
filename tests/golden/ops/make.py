"""Computes the golden numbers of ops: what each case gives in TensorFlow, JAX or NumPy, and its gradients.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0 jax scipy
    /tmp/venv/bin/python tests/golden/ops/make.py [FAMILY...]

Each cases/FAMILY.py lists its `CASES`; the numbers go to FAMILY.json.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import sys
import typing
import zlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

HERE = pathlib.Path(__file__).parent
# The families import this module by its name, also when it runs as a script.
sys.modules.setdefault("make", sys.modules[__name__])


@dataclasses.dataclass
class Case:
    """One application of an op and the function that computes the same elsewhere."""

    op: str
    inputs: list
    oracle: typing.Callable
    attributes: dict
    by: str
    gradients: bool
    tolerance: float | None


def case(op, inputs, oracle, *, by="tensorflow", gradients=True, tolerance=None, **attributes):
    """A case: an op of the table, its inputs, the function that says what it gives, and the op's attributes.

    The oracle takes the inputs as tensors of the library that `by` names ("tensorflow", "jax" or "numpy") and returns a
    tensor or several. From "numpy" only values are taken; so they are with `gradients=False`.
    """
    return Case(op, inputs, oracle, attributes, by, gradients and by != "numpy", tolerance)


def uniform(shape, low=-2.0, high=2.0, dtype="float32"):
    """A random input; what it holds depends on the case alone."""
    return lambda rng: np.round(rng.uniform(low, high, shape), 3).astype(dtype)


def integers(shape, low, high, dtype="int64"):
    """Random integers from `low` up to but not including `high`."""
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def booleans(shape):
    """Random truth values."""
    return lambda rng: rng.integers(0, 2, shape).astype(bool)


def array(values, dtype="float32"):
    """An input that is written out, for example the edge values of an op."""
    return lambda _: np.asarray(values, dtype)


@dataclasses.dataclass
class DType:
    """A dtype as an attribute."""

    name: str


def gradient_of(function, *sources):
    """The oracle of a gradient that is an op: from inputs, and what flows into the result, to the gradients of some inputs."""

    def gradients(*inputs):
        *x, flow = inputs
        wanted = [x[i] for i in sources]
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            y = function(*x)
        return tape.gradient(y, wanted, flow)

    return gradients


def several(values):
    return list(values) if isinstance(values, (tuple, list)) else [values]


def is_float(value):
    return np.asarray(value).dtype.kind == "f"


def upstream(outputs):
    """What flows into each floating-point output: numbers that differ, so that no mistake hides."""
    return [np.linspace(0.5, 1.5, out.size, dtype=out.dtype).reshape(out.shape) if is_float(out) else None for out in outputs]


def in_tensorflow(oracle, inputs, gradients):
    tensors = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch([tensor for tensor in tensors if tensor.dtype.is_floating])
        results = several(oracle(*tensors))
    outputs = [np.asarray(result) for result in results]
    seeds = upstream(outputs)
    pairs = [(result, tf.constant(seed)) for result, seed in zip(results, seeds, strict=True) if seed is not None]
    if not (gradients and pairs):
        return outputs, None
    sources = [tensor for tensor in tensors if tensor.dtype.is_floating]
    found = tape.gradient([result for result, _ in pairs], sources, [seed for _, seed in pairs])
    return outputs, [None if g is None else np.asarray(tf.convert_to_tensor(g)) for g in found]


def in_jax(oracle, inputs, gradients):
    import jax

    jax.config.update("jax_enable_x64", True)
    floats = [i for i, value in enumerate(inputs) if is_float(value)]

    def function(*values):
        given = list(inputs)
        for at, value in zip(floats, values, strict=True):
            given[at] = value
        return several(oracle(*given))

    results, pull = jax.vjp(function, *(jax.numpy.asarray(inputs[i]) for i in floats))
    outputs = [np.asarray(result) for result in results]
    if not gradients:
        return outputs, None
    return outputs, [np.asarray(g) for g in pull([jax.numpy.asarray(seed) for seed in upstream(outputs)])]


def in_numpy(oracle, inputs, _):
    return [np.asarray(result) for result in several(oracle(*inputs))], None


ORACLES = {"tensorflow": in_tensorflow, "jax": in_jax, "numpy": in_numpy}


def number(value):
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def tensor(value):
    if value is None:
        return None
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": [number(x) for x in value.ravel().tolist()]}


def attribute(value):
    """An attribute with the type that its Python value has."""
    match value:
        case bool():
            return {"bool": value}
        case int():
            return {"int": value}
        case float():
            return {"double": number(value)}
        case str():
            return {"string": value}
        case DType(name):
            return {"dtype": name}
        case list() | tuple():
            return {"ints": list(value)}
    raise TypeError(f"no attribute type for {value!r}")


def computed(number_of_case, each):
    rng = np.random.default_rng(zlib.crc32(f"{each.op} {number_of_case}".encode()))
    inputs = [make(rng) for make in each.inputs]
    outputs, gradients = ORACLES[each.by](each.oracle, inputs, each.gradients)
    record = {"op": each.op, "oracle": each.by, "inputs": [tensor(value) for value in inputs]}
    if each.attributes:
        record["attributes"] = {name: attribute(value) for name, value in each.attributes.items()}
    record["outputs"] = [tensor(value) for value in outputs]
    if gradients is not None:
        record["upstream"] = [tensor(value) for value in upstream(outputs)]
        record["gradients"] = [tensor(value) for value in gradients]
    if each.tolerance is not None:
        record["tolerance"] = each.tolerance
    return record


def load(name):
    """The cases of a family. Loaded by path: families may be called like modules of Python, as `math` is."""
    spec = importlib.util.spec_from_file_location(f"cases_{name}", HERE / "cases" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


def main(names):
    for name in names or sorted(path.stem for path in (HERE / "cases").glob("*.py")):
        cases = load(name)
        # The place of a case among those of its op, so that a new op does not change the numbers of others.
        places, records = {}, []
        for each in cases:
            places[each.op] = place = places.get(each.op, -1) + 1
            try:
                records.append(computed(place, each))
            except Exception as error:
                raise RuntimeError(f"{name}: case {place} of {each.op}") from error
        lines = ",\n".join(json.dumps(record) for record in records)
        (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n")
        print(f"{name}: {len(records)} cases of {len(places)} ops")


if __name__ == "__main__":
    main(sys.argv[1:])
