"""Replays the cases of this folder in TensorFlow itself, which says whether their numbers are true.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
    /tmp/venv/bin/python tests/conformance/check.py [NAME...]

Cases whose `oracle` is "none" or "manual" are skipped. Reasons of errors and of absent gradients are this project's own:
here a step that must fail has to fail in TensorFlow too, in whatever way.
"""

import json
import math
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

HERE = pathlib.Path(__file__).parent


class Poisoned(Exception):
    """A step used the output of a step that failed, or a name that nothing bound."""


def plain(function):
    """An op whose attributes have the names of TensorFlow's own arguments."""
    return lambda inputs, **attributes: function(*inputs, **attributes)


def axis_of(axis):
    return None if not axis else axis


def reduction(function):
    return lambda inputs, axis=None, keepdims=False: function(*inputs, axis=axis_of(axis), keepdims=keepdims)


def max_pool(inputs, ksize, strides, padding):
    return tf.nn.max_pool2d(*inputs, ksize=ksize, strides=strides, padding=padding)


UNARY = (
    "negative abs sign exp sqrt square sin cos tan tanh sigmoid floor ceil round identity stop_gradient zeros_like ones_like"
)
MATH = "log log1p expm1 rsqrt reciprocal softplus erf floordiv floormod pow squared_difference logical_and logical_or logical_not"
BINARY = "add subtract multiply divide maximum minimum equal not_equal less less_equal greater greater_equal where"
NN = "relu relu6 elu selu leaky_relu silu softsign gelu softmax log_softmax"
REDUCE = "sum mean max min prod all any logsumexp variance std"

OPS = {name: plain(getattr(tf, name)) for name in UNARY.split() if hasattr(tf, name)}
OPS |= {name: plain(getattr(tf.math, name)) for name in (UNARY + " " + MATH).split() if hasattr(tf.math, name)}
OPS |= {name: plain(getattr(tf, name)) for name in BINARY.split()}
OPS |= {name: plain(getattr(tf.nn, name)) for name in NN.split()}
OPS |= {"reduce_" + name: reduction(getattr(tf.math, "reduce_" + name)) for name in REDUCE.split()}
OPS |= {
    # tf.divide takes integers and makes float64 of them; the op itself does not.
    "divide": lambda inputs: tf.raw_ops.RealDiv(x=inputs[0], y=inputs[1]),
    "argmax": lambda inputs, axis: tf.argmax(*inputs, axis=axis),
    "argmin": lambda inputs, axis: tf.argmin(*inputs, axis=axis),
    "broadcast_to": plain(tf.broadcast_to),
    "cast": plain(tf.cast),
    "clip_by_value": plain(tf.clip_by_value),
    "concat": lambda inputs, axis: tf.concat(inputs, axis),
    "cumsum": plain(tf.cumsum),
    "expand_dims": plain(tf.expand_dims),
    "full": lambda inputs, shape, dtype, value: tf.fill(shape, tf.constant(value, dtype)),
    "gather": plain(tf.gather),
    "matmul": plain(tf.matmul),
    "max_pool": max_pool,
    "one_hot": plain(tf.one_hot),
    "pad": lambda inputs, paddings: tf.pad(inputs[0], np.reshape(paddings, [-1, 2])),
    "reshape": plain(tf.reshape),
    "sigmoid_cross_entropy_with_logits": lambda i: tf.nn.sigmoid_cross_entropy_with_logits(labels=i[0], logits=i[1]),
    "slice": lambda inputs, begin, size: tf.slice(inputs[0], begin, size),
    "softmax_cross_entropy_with_logits": lambda i: tf.nn.softmax_cross_entropy_with_logits(labels=i[0], logits=i[1]),
    "sparse_softmax_cross_entropy_with_logits": lambda i: tf.nn.sparse_softmax_cross_entropy_with_logits(*i),
    "split": lambda inputs, num_splits, axis: tf.split(inputs[0], num_splits, axis),
    "squeeze": lambda inputs, axis=None: tf.squeeze(inputs[0], axis_of(axis)),
    "stack": lambda inputs, axis=0: tf.stack(inputs, axis),
    "strided_slice": lambda inputs, begin, end, strides, **masks: tf.strided_slice(
        inputs[0], begin, end, strides, **{k.replace("shrink_mask", "shrink_axis_mask"): v for k, v in masks.items()}
    ),
    "tile": plain(tf.tile),
    "transpose": lambda inputs, perm=None: tf.transpose(inputs[0], perm or None),
}

OPTIMIZERS = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam, "adagrad": tf.keras.optimizers.Adagrad}


def number(element):
    return float(element) if isinstance(element, str) else element


def array(tensor):
    data = [number(element) for element in tensor["data"]]
    return np.array(data, dtype=tensor["dtype"]).reshape(tensor["shape"])


def untyped(attributes):
    return {name: number(value) if kind == "double" else value for name, typed in attributes.items() for kind, value in typed.items()}


def compare(actual, expected, tolerance):
    wanted = array(expected)
    actual = np.asarray(actual)
    assert str(actual.dtype) == expected["dtype"], f"dtype {actual.dtype}, expected {expected['dtype']}"
    assert list(actual.shape) == expected["shape"], f"shape {actual.shape}, expected {expected['shape']}"
    for have, want in zip(actual.ravel().tolist(), wanted.ravel().tolist()):
        same = have == want or (have != have and want != want)
        near = math.isfinite(have) and math.isfinite(want) and abs(have - want) <= tolerance * max(1, abs(want))
        assert same or near, f"{have!r}, expected {want!r}"


def stop(value):
    """Stops what is a tape or an accumulator and records."""
    if isinstance(value, tf.GradientTape) and value._recording:
        value._pop_tape()
    elif isinstance(value, tf.autodiff.ForwardAccumulator) and value._recording:
        value._pop_accumulator()


def check_form(found, wanted, spec):
    """Holds a Jacobian or tangent, which are never sparse, against what is expected of it."""
    if wanted["kind"] == "zero_filled":
        assert found is not None and not np.any(np.asarray(found)), "not zeros"
    else:
        kind = "absent" if found is None else "dense"
        assert kind == wanted["kind"], f"{kind}, expected {wanted['kind']}"
    for field, have in spec(found).items() if found is not None else ():
        assert wanted.get(field, have) == have, f"{field} {have}, expected {wanted[field]}"


class Replay:
    """One case's session."""

    def __init__(self):
        self.bound = {}
        # The stop_recording blocks that are open, by tape.
        self.blocks = {}
        self.functions = {}
        # The function whose body is being shown.
        self.shown = None

    def get(self, name):
        value = self.bound.get(name)
        if value is None:
            raise Poisoned(name)
        return value

    def tensor(self, name):
        value = self.get(name)
        if isinstance(value, (tf.GradientTape, tf.keras.optimizers.Optimizer)):
            raise TypeError(f"{name} is no value")
        return tf.convert_to_tensor(value)

    def bind(self, name, value):
        if self.bound.get(name) is not None:
            raise KeyError(f"{name} is in use")
        self.bound[name] = value

    def constant(self, output, tensor):
        self.bind(output, tf.constant(array(tensor)))

    def op(self, name, inputs, outputs, attributes=None):
        if any(self.bound.get(output) is not None for output in outputs):
            raise KeyError("in use")
        results = OPS[name]([self.tensor(i) for i in inputs], **untyped(attributes or {}))
        results = results if isinstance(results, list) else [results]
        for output, result in zip(outputs, results, strict=True):
            self.bind(output, result)

    def release(self, handles):
        for handle in handles:
            self.bound.pop(handle, None)

    def create_variable(self, variable, initial_value, name=None, trainable=True):
        self.bind(variable, tf.Variable(self.tensor(initial_value), name=name, trainable=trainable))

    def read_variable(self, variable, output):
        self.bind(output, self.get(variable).read_value())

    def assign_variable(self, variable, value, mode="replace"):
        target = self.get(variable)
        {"replace": target.assign, "add": target.assign_add, "subtract": target.assign_sub}[mode](self.tensor(value))

    def scatter_variable(self, variable, indices, updates, mode="replace"):
        target = self.get(variable)
        method = {"replace": target.scatter_update, "add": target.scatter_add, "subtract": target.scatter_sub}[mode]
        method(tf.IndexedSlices(self.tensor(updates), self.tensor(indices)))

    def open_tape(self, tape, persistent=False, watch_accessed_variables=True, paused=False):
        made = tf.GradientTape(persistent, watch_accessed_variables)
        self.bind(tape, made)
        if not paused:
            made.__enter__()

    def watch_tape(self, tape, values):
        self.get(tape).watch([self.get(value) for value in values])

    def stop_tape(self, tape, require_recording=False):
        made = self.get(tape)
        if isinstance(made, tf.autodiff.ForwardAccumulator):
            if made._recording or require_recording:
                made._pop_accumulator()
        elif require_recording:
            block = made.stop_recording()
            block.__enter__()
            self.blocks[tape] = block
        elif made._recording:
            made._pop_tape()

    def resume_tape(self, tape):
        block = self.blocks.pop(tape, None)
        if block is None:
            self.get(tape).__enter__()
        else:
            block.__exit__(None, None, None)

    def reset_tape(self, tape):
        self.get(tape).reset()

    def close_tape(self, tape):
        stop(self.bound.pop(tape, None))

    def list_watched_variables(self, tape, expect=None):
        names = {id(value): name for name, value in self.bound.items()}
        found = [names[id(variable)] for variable in self.get(tape).watched_variables()]
        assert expect is None or found == expect, f"watched {found}, expected {expect}"

    def compute_gradient(
        self, tape, targets, sources, outputs, output_gradients=None, unconnected_gradients="none", expect=None
    ):
        made = self.get(tape)
        targets = [self.get(target) for target in targets]
        sources = [self.get(source) for source in sources]
        seeds = None
        if output_gradients:
            # TensorFlow aborts where a seed is missing, so the ones that null stands for are written out.
            seeds = [
                self.tensor(seed) if seed else tf.ones_like(target)
                for seed, target in zip(output_gradients, targets, strict=True)
            ]
        found = made.gradient(targets, sources, seeds, unconnected_gradients)
        for source, output, gradient, wanted in zip(
            sources, outputs, found, expect or [None] * len(found), strict=True
        ):
            sparse = isinstance(gradient, tf.IndexedSlices)
            if wanted is not None:
                if wanted["kind"] == "zero_filled":
                    assert gradient is not None and not np.any(np.asarray(gradient)), "not zeros"
                else:
                    kind = "absent" if gradient is None else "sparse" if sparse and isinstance(output, dict) else "dense"
                    assert kind == wanted["kind"], f"{kind}, expected {wanted['kind']}"
                if gradient is not None and "dtype" in wanted:
                    assert gradient.dtype.name == wanted["dtype"], gradient.dtype.name
                if gradient is not None and "shape" in wanted:
                    assert list(source.shape) == wanted["shape"], source.shape
            if isinstance(output, dict):
                if sparse:
                    self.bind(output["gradient"], gradient.values)
                    self.bind(output["indices"], gradient.indices)
                elif gradient is not None:
                    self.bind(output["gradient"], gradient)
            elif gradient is not None:
                self.bind(output, tf.convert_to_tensor(gradient))

    def bind_all(self, outputs, found, expect):
        for output, result, wanted in zip(outputs, found, expect or [None] * len(found), strict=True):
            if wanted is not None:
                check_form(result, wanted, lambda t: {"dtype": t.dtype.name, "shape": list(t.shape)})
            if result is not None:
                self.bind(output, tf.convert_to_tensor(result))

    def compute_jacobian(self, tape, target, sources, outputs, unconnected_gradients="none", expect=None):
        sources = [self.get(source) for source in sources]
        made, target = self.get(tape), self.get(target)
        self.bind_all(outputs, made.jacobian(target, sources, unconnected_gradients), expect)

    def compute_batch_jacobian(self, tape, target, source, output, expect=None):
        found = self.get(tape).batch_jacobian(self.get(target), self.get(source))
        self.bind_all([output], [found], expect)

    def open_accumulator(self, accumulator, primals, tangents, paused=False):
        made = tf.autodiff.ForwardAccumulator(
            [self.get(primal) for primal in primals], [self.tensor(tangent) for tangent in tangents]
        )
        self.bind(accumulator, made)
        if not paused:
            made.__enter__()

    def read_tangent(self, accumulator, values, outputs, unconnected_gradients="none", expect=None):
        unconnected = tf.UnconnectedGradients(unconnected_gradients)
        found = self.get(accumulator).jvp([self.get(value) for value in values], unconnected)
        self.bind_all(outputs, found, expect)

    def create_optimizer(self, optimizer, name, hyperparameters=None):
        self.bind(optimizer, OPTIMIZERS[name](**untyped(hyperparameters or {})))

    def apply_optimizer(self, optimizer, pairs, expect=None):
        made = self.get(optimizer)
        gradients = []
        for pair in pairs:
            variable = self.get(pair["variable"])
            gradient = self.bound.get(pair["gradient"])
            if gradient is not None and self.bound.get(pair.get("indices")) is not None:
                gradient = tf.IndexedSlices(gradient, self.get(pair["indices"]), tf.shape(variable))
            gradients.append((gradient, variable))
        made.apply_gradients(gradients)
        if expect is not None:
            accumulation = made.gradient_accumulation_steps or 1
            assert int(made._iterations) // accumulation == expect["iterations"], int(made._iterations)

    def set_optimizer(self, optimizer, hyperparameters):
        for name, value in untyped(hyperparameters).items():
            setattr(self.get(optimizer), name, value)

    def fetch(self, value, expect=None, tolerance=0):
        found = self.tensor(value).numpy()
        if expect is not None:
            compare(found, expect, tolerance)
        return found

    def describe(self, value, expect=None):
        found = self.tensor(value)
        if expect is not None:
            have = {"dtype": found.dtype.name, "shape": list(found.shape)}
            assert have == expect, f"{have}, expected {expect}"

    def sync(self):
        pass

    def define_function(self, function, parameters, specs):
        self.shown = {"parameters": list(zip(parameters, specs, strict=True)), "body": []}

    def finish_function(self, function, results, expect=None):
        # Values belong to it as they are; variables and the like are looked up at each call.
        values = {name: value for name, value in self.bound.items() if isinstance(value, tf.Tensor)}
        self.functions[function] = self.shown | {"results": results, "values": values}
        self.shown = None

    def call_function(self, function, arguments, outputs):
        """A call does what its body does; what the body made ends with it."""
        called, before = self.functions[function], dict(self.bound)
        self.bound = called["values"] | before
        for (parameter, spec), argument in zip(called["parameters"], arguments, strict=True):
            self.describe(argument, spec)
            self.bind(parameter, self.tensor(argument))
        for step in called["body"]:
            self.step(step)
        results = [self.tensor(result) for result in called["results"]]
        self.bound = before
        for output, result in zip(outputs, results, strict=True):
            self.bind(output, tf.identity(result))

    def run_loop(
        self, function, steps, outputs, datasets=(), batch_size=0, arguments=(), carried=0, report_every=0, while_result=None, expect=None
    ):
        values, reports = [self.tensor(argument) for argument in arguments], []
        for step in range(steps):
            given = list(values)
            if datasets:
                batches = self.tensor(datasets[0]).shape[0] // batch_size
                start = step % batches * batch_size
                given = [self.tensor(dataset)[start : start + batch_size] for dataset in datasets] + given
            names = [f"{function} argument {i}" for i in range(len(given))]
            made = [f"{function} result {i}" for i in range(len(outputs))]
            for name, value in zip(names, given):
                self.bound[name] = value
            for name in made:
                self.bound.pop(name, None)
            self.call_function(function, names, made)
            results = [self.tensor(name) for name in made]
            values[:carried] = results[:carried]
            if report_every and (step + 1) % report_every == 0:
                scalars = [float(result) for result in results if not result.shape.rank]
                reports.append({"step": step + 1, "values": scalars})
            if while_result is not None:
                assert results[while_result].dtype == tf.bool and not results[while_result].shape.rank
                if not results[while_result]:
                    break
        for output, result in zip(outputs, results, strict=True):
            self.bind(output, result)
        if expect is not None:
            assert expect == {"steps": step + 1, "reports": reports}, reports

    def repeat(self, times, steps):
        for _ in range(times):
            for step in steps:
                self.step(step)

    def end(self):
        """Stops all tapes: one that is left recording would see the next case."""
        for block in self.blocks.values():
            block.__exit__(None, None, None)
        for value in self.bound.values():
            stop(value)

    def step(self, step):
        (verb,) = step.keys() - {"error", "warnings", "tag", "scope"}
        fields = step[verb]
        if self.shown is not None and verb != "finish_function":
            self.shown["body"].append(step)
            return None
        if "error" not in step:
            return getattr(self, verb)(**fields)
        try:
            getattr(self, verb)(**fields)
        except AssertionError:
            if verb in ("call_function", "run_loop"):
                return None
            raise
        except Exception:
            return None
        raise AssertionError(f"{verb} succeeded, expected {step['error']['reason']}")


def main():
    wanted = set(sys.argv[1:])
    passed = failed = skipped = 0
    for path in sorted(HERE.glob("*.json")):
        case = json.loads(path.read_text())
        if wanted and path.stem not in wanted:
            continue
        if case["name"] != path.stem:
            raise SystemExit(f"{path.name}: name is {case['name']}")
        if "oracle" in case:
            skipped += 1
            continue
        replay = Replay()
        try:
            for number, step in enumerate(case["steps"], 1):
                replay.step(step)
            passed += 1
        except Exception as error:
            failed += 1
            print(f"{path.stem}: step {number}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            replay.end()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
