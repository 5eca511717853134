"""`tf.function`: it computes what its body computes, to the bit; and when it is traced."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as tf


class Model:
    """Two layers, their optimizer, and a generator for dropout."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.w1 = tf.Variable(random.normal(size=(4, 8)).astype(np.float32))
        self.w2 = tf.Variable(random.normal(size=(8, 1)).astype(np.float32))
        self.count = tf.Variable(1.0, trainable=False)
        self.adam = tf.keras.optimizers.Adam(0.01)
        self.momentum = tf.keras.optimizers.SGD(0.01, momentum=0.9)
        self.generator = tf.random.Generator.from_seed(7)

    def loss(self, x: Any) -> Any:
        return tf.reduce_mean(tf.square(tf.matmul(tf.tanh(tf.matmul(x, self.w1)), self.w2)))

    def state(self) -> list[bytes]:
        return [v.numpy().tobytes() for v in (self.w1, self.w2, self.count)]


def adam(model: Model, x: Any) -> Any:
    with tf.GradientTape() as tape:
        loss = model.loss(x)
    sources = [model.w1, model.w2]
    model.adam.apply_gradients(zip(tape.gradient(loss, sources), sources, strict=True))
    return loss


def by_hand(model: Model, x: Any) -> Any:
    with tf.GradientTape(persistent=True) as tape:
        loss = model.loss(x)
    model.w1.assign_sub(0.1 * tape.gradient(loss, model.w1))
    model.w2.assign_sub(0.1 * tape.gradient(loss, model.w2))
    model.count.assign_add(model.count * 0.5)
    return {"loss": loss, "count": model.count * 2.0}


def dropout(model: Model, x: Any) -> Any:
    keep = tf.cast(model.generator.uniform(x.shape) > 0.3, tf.float32)
    return adam(model, x * keep), keep


def nested(model: Model, x: Any) -> Any:
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = model.loss(x)
        first = inner.gradient(loss, x)
        total = tf.reduce_sum(first * first)
    return first, outer.gradient(total, [x, model.w1])


def own_gradient(model: Model, x: Any) -> Any:
    @tf.custom_gradient
    def clipped(value: Any) -> Any:
        return value, lambda dy: tf.clip_by_value(dy, -0.01, 0.01)

    with tf.GradientTape() as tape:
        loss = model.loss(clipped(x) * 1.5)
    sources = [model.w1, model.w2]
    gradients = tape.gradient(loss, sources)
    model.momentum.apply_gradients(zip(gradients, sources, strict=True))
    return gradients


def jacobian(model: Model, x: Any) -> Any:
    with tf.GradientTape() as tape:
        y = tf.matmul(x, model.w1)
    return tape.jacobian(y, model.w1), None, [x.shape[0], "text"]


def forward(model: Model, x: Any) -> Any:
    with tf.autodiff.ForwardAccumulator(model.w1, tf.ones_like(model.w1)) as accumulator:
        loss = model.loss(x)
    return accumulator.jvp(loss)


def rows(model: Model, x: Any) -> Any:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(model.w1, [0, 2, 2]) * x[:3, :1])
    gradient = tape.gradient(loss, model.w1)
    model.momentum.apply_gradients([(gradient, model.w1)])
    return gradient


PROGRAMS = [adam, by_hand, dropout, nested, own_gradient, jacobian, forward, rows]


def seen(value: Any) -> Any:
    """Results as bytes, in their structure."""
    if isinstance(value, dict):
        return {key: seen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [seen(item) for item in value]
    if isinstance(value, tf.IndexedSlices):
        return [seen(value.values), seen(value.indices)]
    if isinstance(value, int):
        # Numbers become tensors, as in TensorFlow.
        return np.int32(value).tobytes()
    return value.numpy().tobytes() if hasattr(value, "numpy") else value


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_function_gives_the_bits_that_its_body_gives(program: Callable[..., Any]) -> None:
    batches = np.random.default_rng(2).normal(size=(4, 6, 4)).astype(np.float32)
    found = []
    for decorate in (lambda f: f, tf.function):
        model = Model()
        run = decorate(lambda x, model=model: program(model, x))
        results = [seen(run(tf.constant(x))) for x in batches]
        found.append((results, model.state()))
    assert found[0] == found[1]


def test_the_tutorial_gives_tensorflows_bits() -> None:
    w, b = tf.Variable(0.1), tf.Variable(0.1)
    x = tf.constant(np.arange(10, dtype=np.float32))
    y = tf.constant(np.arange(-1, 18, 2, dtype=np.float32))

    @tf.function
    def step() -> Any:
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.abs(y - (w * x + b))
        dw, db = tape.gradient(loss, w), tape.gradient(loss, b)
        w.assign_sub(dw * 0.001)
        b.assign_sub(db * 0.001)

    for _ in range(1000):
        step()
    # What TensorFlow 2.21 prints on a CPU.
    assert (float(w), float(b)) == (2.0080034732818604, -0.9919993877410889)
    assert step.experimental_get_tracing_count() == 1


# === When it is traced ===


def test_each_kind_of_arguments_is_traced_once() -> None:
    traced = []

    @tf.function
    def power(x: Any, n: Any = 2) -> Any:
        traced.append((x.shape, n))
        return x**n

    assert float(power(tf.constant(3.0))) == 9.0
    assert float(power(tf.constant(4.0))) == 16.0
    assert power(tf.constant([1.0, 2.0])).numpy().tolist() == [1.0, 4.0]
    assert float(power(tf.constant(2.0), 3)) == 8.0
    assert float(power(tf.constant(2.0), n=3)) == 8.0
    assert power(np.array([1.0, 3.0], np.float32)).numpy().tolist() == [1.0, 9.0]
    assert [n for _, n in traced] == [2, 2, 3]
    assert power.experimental_get_tracing_count() == 3


def test_values_that_are_equal_in_python_are_told_apart() -> None:
    @tf.function
    def kind(x: Any, flag: Any) -> Any:
        return x * (2.0 if flag is True else 3.0 if isinstance(flag, int) else 4.0)

    x = tf.constant(1.0)
    assert [float(kind(x, flag)) for flag in (True, 1, 1.0)] == [2.0, 3.0, 4.0]


def test_a_signature_converts_and_refuses() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def scaled(x: Any, n: Any) -> Any:
        return x * tf.cast(n, tf.float32)

    assert scaled([1.0, 2.0], 3).numpy().tolist() == [3.0, 6.0]
    assert scaled([1.0, 2.0], 4).numpy().tolist() == [4.0, 8.0]
    assert scaled.experimental_get_tracing_count() == 1
    with pytest.raises(TypeError, match="Can not cast"):
        scaled(tf.constant([[1.0]]), 3)
    with pytest.raises(TypeError, match="Can not cast"):
        scaled(tf.constant([1]), 3)


def test_a_concrete_function_is_traced_for_a_specification() -> None:
    scale = tf.Variable(2.0)
    doubled = tf.function(lambda x: {"y": x * scale})
    concrete = doubled.get_concrete_function(tf.TensorSpec([2], tf.float32))
    assert concrete(tf.constant([1.0, 2.0]))["y"].numpy().tolist() == [2.0, 4.0]
    assert concrete.structured_outputs == {"y": tf.TensorSpec([2], tf.float32)}
    assert concrete.inputs == [tf.TensorSpec([2], tf.float32)]
    assert concrete.captured_inputs[0] is scale
    assert float(doubled(tf.constant([1.0, 2.0]))["y"][0]) == 2.0
    assert doubled.experimental_get_tracing_count() == 1
    with pytest.raises(TypeError, match="Can not cast"):
        concrete(tf.constant([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="shapes that are known"):
        doubled.get_concrete_function(tf.TensorSpec([None], tf.float32))


def test_methods_have_traces_of_their_own() -> None:
    class Scaled:
        def __init__(self, by: float) -> None:
            self.by = tf.Variable(by)

        @tf.function
        def __call__(self, x: Any, offset: float = 0.0) -> Any:
            return x * self.by + offset

    one, other = Scaled(2.0), Scaled(3.0)
    assert [float(f(tf.constant(2.0), offset=1.0)) for f in (one, other, one)] == [5.0, 7.0, 5.0]
    assert one.__call__.experimental_get_tracing_count() == 1


def test_functions_can_run_as_they_are() -> None:
    calls = []

    @tf.function
    def seen_elements(x: Any) -> Any:
        calls.append(float(x))
        return x + 1.0

    tf.config.run_functions_eagerly(True)
    try:
        assert [float(seen_elements(tf.constant(i))) for i in (1.0, 2.0)] == [2.0, 3.0]
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)
    assert calls == [1.0, 2.0]


# === What a body may and may not do ===


def test_elements_are_not_known_while_a_function_is_traced() -> None:
    v = tf.Variable(1.0)
    asks: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
        (lambda x: x if x > 0 else -x, tf.errors.OperatorNotAllowedInGraphError, "Python `bool`"),
        (lambda x: x.numpy(), NotImplementedError, "eager execution"),
        (lambda x: float(x), NotImplementedError, "eager execution"),
        (lambda x: x + np.asarray(x), NotImplementedError, "eager execution"),
        (lambda x: x + v.numpy(), NotImplementedError, "eager execution"),
    ]
    for ask, error, message in asks:
        with pytest.raises(error, match=message):
            tf.function(ask)(tf.constant(1.0))
    # What is outside is known.
    known = tf.constant(3.0)
    assert float(tf.function(lambda x: x * float(known))(tf.constant(2.0))) == 6.0
    assert tf.executing_eagerly()


def test_shapes_and_absent_gradients_are_known_while_a_function_is_traced() -> None:
    v, u = tf.Variable([1.0, 2.0]), tf.Variable(1.0)
    known = []

    @tf.function
    def look(x: Any) -> Any:
        y = tf.matmul(x, x, transpose_b=True)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(v * v)
        gradients = tape.gradient(loss, [v, u])
        known.append((tuple(y.shape), gradients[1], tf.executing_eagerly()))
        return gradients

    gradients = look(tf.ones((3, 5)))
    assert gradients[0].numpy().tolist() == [2.0, 4.0]
    assert gradients[1] is None
    assert known == [((3, 3), None, False)]


def test_shapes_steer_a_body() -> None:
    @tf.function
    def noisy(x: Any) -> Any:
        rows = tf.shape(x)[0]
        flat = tf.reshape(x, [rows, -1])
        return flat + tf.zeros(tf.shape(flat)) + tf.ones([rows, 1]), tf.random.normal(tf.shape(x))

    for shape in ((2, 3, 4), (5, 2)):
        sums, noise = noisy(tf.ones(shape))
        assert sums.numpy().tolist() == np.full((shape[0], np.prod(shape[1:])), 2.0).tolist()
        assert noise.shape == shape
    size = tf.function(lambda x: [tf.zeros(tf.size(x)), tf.zeros(tf.rank(x)), tf.shape(x)[1:]])
    assert [value.numpy().tolist() for value in size(tf.ones((1, 2)))] == [[0.0] * 2] * 2 + [[2]]


def test_what_is_wrong_with_a_body_names_the_users_line() -> None:
    @tf.function
    def wrong(x: Any) -> Any:
        return tf.matmul(x, tf.ones((5, 5)))

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"test_function\.py:\d+"):
        wrong(tf.ones((2, 3)))
    assert float(tf.constant(2.0) * 3.0) == 6.0


def test_an_exception_in_a_body_leaves_nothing_behind() -> None:
    v = tf.Variable(1.0)

    @tf.function
    def raises(x: Any) -> Any:
        v.assign(x)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        raises(tf.constant(5.0))
    assert float(v) == 1.0
    v.assign_add(1.0)
    assert float(v) == 2.0


def test_variables_may_be_made_in_the_first_call() -> None:
    made: list[Any] = []

    @tf.function
    def counted(x: Any) -> Any:
        if not made:
            made.append(tf.Variable(10.0))
        made[0].assign_add(x)
        return made[0] + 0.0

    assert [float(counted(tf.constant(1.0))) for _ in range(3)] == [11.0, 12.0, 13.0]
    assert counted.experimental_get_tracing_count() == 1

    @tf.function
    def careless(x: Any) -> Any:
        return tf.Variable(x) + x

    careless(tf.constant(1.0))
    with pytest.raises(ValueError, match="first call"):
        careless(tf.constant(1.0))


def test_values_are_captured_as_they_are_and_variables_as_they_will_be() -> None:
    v = tf.Variable(1.0)
    factors = [tf.constant(10.0)]
    f = tf.function(lambda x: x * factors[0] + v)
    assert float(f(tf.constant(2.0))) == 21.0
    factors.clear()
    gc.collect()
    v.assign(5.0)
    assert float(f(tf.constant(2.0))) == 25.0


def test_a_failing_call_changes_nothing() -> None:
    v = tf.Variable(1.0)

    @tf.function
    def divide(x: Any) -> Any:
        v.assign_add(1.0)
        return x // x

    assert divide(tf.constant([4, 5])).numpy().tolist() == [1, 1]
    bad = divide(tf.constant([4, 0]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        bad.numpy()
    assert float(v) == 2.0


def test_random_numbers_differ_from_call_to_call_and_follow_the_seed() -> None:
    draw = tf.function(lambda: tf.random.normal((3,)))
    tf.random.set_seed(3)
    first = [draw().numpy().tolist() for _ in range(3)]
    assert first[1] != first[2]
    tf.random.set_seed(3)
    assert [draw().numpy().tolist() for _ in range(3)] == first
    tf.random.set_seed(3)
    assert [tf.random.normal((3,)).numpy().tolist() for _ in range(3)] == first


# === Tapes around a function ===


def test_tapes_differentiate_through_a_call() -> None:
    v, k = tf.Variable(3.0), tf.constant(2.0)
    f = tf.function(lambda x: x * x * v + k * k * x)
    for _ in range(3):
        x = tf.constant(5.0)
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([x, k])
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            first = tape.gradient(y, x)
        # 2 x v + k^2, and its derivatives.
        assert float(first) == 34.0
        assert [float(g) for g in outer.gradient(first, [x, v, k])] == [6.0, 10.0, 4.0]
        assert [float(g) for g in outer.gradient(y, [v, k])] == [25.0, 20.0]


def test_which_gradients_exist_is_never_confused() -> None:
    u, v = tf.Variable(2.0), tf.Variable(3.0)
    of_u, of_v = tf.function(lambda x: x * u), tf.function(lambda x: x * v)
    for f, wanted in [(of_u, [5.0, None]), (of_v, [None, 5.0])] * 3:
        with tf.GradientTape() as tape:
            y = f(tf.constant(5.0))
        found = tape.gradient(y, [u, v])
        assert [None if g is None else float(g) for g in found] == wanted


def test_a_custom_gradient_in_a_function_counts_for_a_tape_around_it() -> None:
    @tf.custom_gradient
    def doubled(x: Any) -> Any:
        return x, lambda dy: dy * 2.0

    f = tf.function(lambda x: doubled(x) * 3.0)
    x = tf.constant(1.0)
    assert float(f(x)) == 3.0
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert float(tape.gradient(y, x)) == 6.0


def test_functions_in_functions() -> None:
    v = tf.Variable(1.0)

    @tf.function
    def add(x: Any) -> Any:
        v.assign_add(x)
        return v * 2.0

    @tf.function
    def twice(x: Any) -> Any:
        return add(x) + add(x)

    assert float(twice(tf.constant(1.0))) == 10.0
    assert float(v) == 3.0


def test_functions_that_are_gone_are_forgotten_by_the_server() -> None:
    x = tf.constant(1.0)
    for i in range(1_200):  # More than a session may have at a time.
        assert float(tf.function(lambda x, i=i: x + float(i % 2))(x)) == 1.0 + i % 2


def test_a_plan_explains_itself() -> None:
    w = tf.Variable(tf.ones((32, 8)))

    @tf.function
    def layer(x: Any) -> Any:
        return tf.tanh(x @ w * 2.0 + 1.0)

    plan = layer.explain(tf.TensorSpec((64, 32), tf.float32))
    assert [step.ops for step in plan.steps] == [("matmul",), ("multiply", "add", "tanh")]
    assert plan.steps[0].flops == 2 * 64 * 32 * 8
    assert "tanh(float32[64, 8]" in str(plan)


def test_random_numbers_in_another_session(address: str) -> None:
    draw = tf.function(lambda: tf.random.normal([2]))
    for _ in range(2):
        tf.connect(address)
        first, second = draw().numpy(), draw().numpy()
        assert (first != second).all()


def test_a_trace_that_is_known_holds_as_long_as_what_it_depends_on(address: str) -> None:
    noisy = tf.function(lambda x, y: x + y + tf.random.uniform([2]))
    seen = []
    for _ in range(2):
        tf.random.set_seed(3)
        x = tf.constant([1.0, 2.0])
        # The second argument's shape was computed, and that of the third call is another one.
        seen.append([noisy(x, x * 2.0).numpy().tolist() for _ in range(3)])
        assert noisy(x, tf.constant(1.0)).shape == (2,)
    assert seen[0] == seen[1]
    assert len({tuple(values) for values in seen[0]}) == 3
    assert noisy.experimental_get_tracing_count() == 4
    double = tf.function(lambda x: x * 2.0)
    assert double(x).shape == double(x).shape == (2,)
    tf.connect(address)
    with pytest.raises(tf.errors.NotFoundError, match="another session"):
        double(x)
    assert double(tf.constant([1.0, 2.0])).numpy().tolist() == [2.0, 4.0]
    assert double.experimental_get_tracing_count() == 2
