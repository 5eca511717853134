"""What type checkers and other libraries see of the package."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from mypy import api

import gradtape as tf

PROGRAM = Path(__file__).parent / "typed_program.py"


def test_a_program_with_annotations_passes_a_strict_check_and_runs(tmp_path: Path) -> None:
    options = ["--strict", "--config-file=", f"--cache-dir={tmp_path}"]
    report, errors, status = api.run([*options, str(PROGRAM)])
    assert status == 0, report + errors
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PROGRAM.read_text() + "\ndouble(3).missing\n")
    report, _, status = api.run([*options, str(wrong)])
    assert status == 1
    assert '"int"; expected "Tensor"' in report
    runpy.run_path(str(PROGRAM), run_name="__main__")


def test_every_name_that_is_offered_is_there_and_documented() -> None:
    modules = (tf, tf.bitwise, tf.data, tf.image, tf.linalg, tf.math, tf.nn, tf.random, tf.train)
    for module in modules:
        for name in module.__all__:
            value = getattr(module, name)
            assert not callable(value) or value.__doc__, f"{module.__name__}.{name}"


def test_elements_go_to_numpy_and_come_from_dlpack() -> None:
    for value in (tf.constant([1.0, 2.0]), tf.Variable([1.0, 2.0])):
        assert np.from_dlpack(value).tolist() == [1.0, 2.0]
        assert np.asarray(value).dtype == np.float32
        assert np.array(value, np.int64).tolist() == [1, 2]
    array = np.arange(6.0).reshape(2, 3)
    assert tf.experimental.dlpack.from_dlpack(array.T).numpy().tolist() == array.T.tolist()
    assert np.add(np.ones(2, np.float32), tf.ones([2]).numpy()).tolist() == [2.0, 2.0]


def test_a_sparse_gradient_becomes_dense_where_a_tensor_is_wanted() -> None:
    w = tf.Variable(np.ones([4, 2], np.float32))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(tf.gather(w, [1, 1, 3]) * [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sparse = tape.gradient(y, w)
    assert isinstance(sparse, tf.IndexedSlices)
    assert tf.is_tensor(sparse)
    dense = [[0.0, 0.0], [4.0, 6.0], [0.0, 0.0], [5.0, 6.0]]
    assert tf.convert_to_tensor(sparse).numpy().tolist() == dense
    assert tf.add_n([sparse, tf.zeros([4, 2])]).numpy().tolist() == dense
    assert float(tf.reduce_sum(sparse)) == 21.0
    assert (-sparse).values.numpy().tolist() == [[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]]
    again = tf.IndexedSlices(sparse.values, sparse.indices, sparse.dense_shape)
    assert tf.convert_to_tensor(again).numpy().tolist() == dense


# Each goes wrong in line 4 of a program of its own.
WRONG = {
    "an op": "x = tf.ones([2, 3])\n\ny = x @ x\ny.numpy()",
    "a gradient": (
        "v = tf.Variable([1.0, 2.0])\nwith tf.GradientTape() as t: y = v * v\n"
        "g = t.gradient(y, v, output_gradients=tf.ones([3]))\ng.numpy()"
    ),
    "an optimizer": (
        "v = tf.Variable([1.0])\no = tf.keras.optimizers.SGD(0.1)\n"
        "o.apply_gradients([(tf.ones([3]), v)])\ntf.synchronize()"
    ),
    "a function": "x = tf.ones([2, 3])\ndef f(x):\n  return x @ x\nprint(f(x))",
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("file", ["train.py", "<ipython-input-7>"])
def test_an_error_names_the_users_own_line(what: str, file: str) -> None:
    program = compile("import gradtape as tf\n" + WRONG[what], file, "exec")
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at {file}:4") as caught:
        exec(program, {"__name__": "__main__"})
    assert caught.value.tag == f"{file}:4"
