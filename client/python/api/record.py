"""Records TensorFlow's and Keras' public names and signatures in tensorflow.json.

python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
/tmp/venv/bin/python client/python/api/record.py
"""

import inspect
import json
import os
import pathlib
import types

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

HERE = pathlib.Path(__file__).parent
NAMESPACES = [
    "tf",
    "tf.autodiff",
    "tf.bitwise",
    "tf.data",
    "tf.data.Dataset",
    "tf.dtypes",
    "tf.experimental.dlpack",
    "tf.image",
    "tf.linalg",
    "tf.math",
    "tf.nn",
    "tf.random",
    "tf.sets",
    "tf.signal",
    "tf.sparse",
    "tf.strings",
    "tf.train",
    "tf.GradientTape",
    "tf.Variable",
    "tf.Tensor",
    "tf.IndexedSlices",
    "tf.Module",
    "tf.keras",
    "tf.keras.activations",
    "tf.keras.backend",
    "tf.keras.callbacks",
    "tf.keras.constraints",
    "tf.keras.initializers",
    "tf.keras.layers",
    "tf.keras.losses",
    "tf.keras.metrics",
    "tf.keras.models",
    "tf.keras.ops",
    "tf.keras.optimizers",
    "tf.keras.optimizers.schedules",
    "tf.keras.random",
    "tf.keras.regularizers",
    "tf.keras.utils",
    "tf.keras.Model",
    "tf.keras.Sequential",
]


def resolve(path):
    """The object behind a dotted name."""
    found = tf
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found


def parameters(value):
    """Names and defaults of the parameters, or None where Python cannot tell."""
    if not callable(value) or isinstance(value, property):
        return None
    try:
        signature = inspect.signature(value)
    except (ValueError, TypeError):
        return None
    listed = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        entry = [stars.get(parameter.kind, "") + parameter.name]
        if parameter.default is not parameter.empty:
            entry.append(default(parameter.default))
        listed.append(entry)
    return listed


def default(value):
    """A default as the text that a reader would write."""
    if isinstance(value, tf.DType):
        return f"tf.{value.name}"
    if isinstance(value, (bool, int, float, str, tuple, list, type(None))):
        return repr(value)
    return str(value)


def kind(value):
    """What the reader should know of an object without a signature."""
    if isinstance(value, types.ModuleType):
        return "module"
    if isinstance(value, type):
        return "class"
    return "function" if callable(value) else "value"


def main():
    """Walks the namespaces and writes the file."""
    names = {}
    for namespace in NAMESPACES:
        owner = resolve(namespace)
        for name in sorted(dir(owner)):
            if name.startswith("_"):
                continue
            value = getattr(owner, name)
            entry = {"kind": kind(value)}
            listed = parameters(value)
            if listed is not None and entry["kind"] != "module":
                entry["parameters"] = listed
            names[f"{namespace}.{name}"] = entry
    record = {"tensorflow": tf.__version__, "keras": tf.keras.__version__, "names": names}
    entries = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in names.items()]
    lines = ",\n".join(entries)
    head = json.dumps({key: record[key] for key in ("tensorflow", "keras")})[1:-1]
    (HERE / "tensorflow.json").write_text(f'{{{head}, "names": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
