"""The training loop: `compile`, `fit`, `evaluate` and `predict`.

A step is a function that the server runs as one command, and several are a loop there
(`execution.py`) over examples that stay (`examples.py`). None waits for the server: losses and
metrics gather there, and are read at the end of an epoch and when the progress bar is drawn.
"""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import gradtape as tf
from gradtape import nest
from gradtape.keras import callbacks as callbacks_module, data_adapter, metrics, optimizers
from gradtape.keras.compiled import CompiledLoss, CompiledMetrics
from gradtape.keras.execution import Execution, interruptible
from gradtape.keras.layers.base import Layer
from gradtape.keras.serialization import deserialize_keras_object, serialize_keras_object

# Batches whose predictions the server may still be computing while earlier ones are read.
_AHEAD = 8


class Trainer(Layer):
    """A layer that can be trained on data."""

    optimizer: Any = None
    # Set by a callback that restores a training that was interrupted.
    _initial_epoch: int | None = None
    stop_training = False
    compiled = False
    # What `compile` was told.
    loss: Any = None
    run_eagerly = False
    jit_compile: Any = "auto"
    steps_per_execution = 1
    # The arguments of `compile`.
    _compile_arguments: dict[str, Any]
    _loss: CompiledLoss | None = None
    _compiled_metrics: CompiledMetrics | None = None
    _loss_tracker: metrics.Mean | None = None
    # What runs the steps, by their kind.
    _executions: dict[str, Execution]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Says how to train.

        Args:
            optimizer: Optimizer, or its name.
            loss: Loss, function or name; for several outputs a list, or a dictionary by name.
            loss_weights: Factors of several losses.
            metrics: List of metrics, functions or names; for several outputs a list of lists, or a
                dictionary by name.
            weighted_metrics: Metrics that take the sample weights.
            run_eagerly: Whether steps run as they are instead of as functions that the server
                traces once.
            steps_per_execution: Batches that one command trains on or evaluates; callbacks hear of
                the last one of them. Of arrays that fit in the session it is a loop on the server.
            jit_compile: Accepted for Keras' sake: a function is always compiled.
            auto_scale_loss: Whether the optimizer's loss scale is applied.
        """
        self._compile_arguments = {
            "optimizer": optimizer, "loss": loss, "loss_weights": loss_weights,
            "metrics": metrics, "weighted_metrics": weighted_metrics, "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution, "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }  # fmt: skip
        self.optimizer = self._compile_arguments["optimizer"] = optimizers.get(optimizer)
        halves = self.dtype_policy.name == "mixed_float16"
        scaled = isinstance(self.optimizer, optimizers.LossScaleOptimizer)
        if halves and auto_scale_loss and not scaled:
            # Gradients of half precision would vanish else, as in Keras.
            self.optimizer = optimizers.LossScaleOptimizer(self.optimizer)
        self.loss = loss
        if steps_per_execution < 1:
            raise ValueError(f"steps_per_execution must be at least 1, got {steps_per_execution}")
        self.run_eagerly, self.jit_compile = run_eagerly, jit_compile
        self.steps_per_execution = steps_per_execution
        self._executions = {}
        self._loss = None if loss is None else CompiledLoss(loss, loss_weights, self._names)
        self._compiled_metrics = CompiledMetrics(metrics, weighted_metrics, self._names)
        self._loss_tracker = tf.keras.metrics.Mean(name="loss")
        self._scale_loss = auto_scale_loss
        self.stop_training = False
        self.compiled = True

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns what `compile` was told as plain data; of the optimizer, not its state."""
        return serialize_keras_object(self._compile_arguments) if self.compiled else None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as `get_compile_config` says."""
        self.compile(**deserialize_keras_object(config))

    def make_train_function(self, force: bool = False) -> Execution:
        """Returns what trains on a list of batches.

        Args:
            force: Whether to make it anew, for a model whose Python has changed.
        """
        return self._execution("train", self.train_step, force)

    def make_test_function(self, force: bool = False) -> Execution:
        """Returns what evaluates a list of batches."""
        return self._execution("test", self.test_step, force)

    def make_predict_function(self, force: bool = False) -> Execution:
        """Returns what predicts from a batch in a list."""
        return self._execution("predict", self.predict_step, force)

    def _execution(self, kind: str, step: Any, force: bool) -> Execution:
        made: dict[str, Execution] = vars(self).setdefault("_executions", {})
        depends = [variable._serial for variable in self.trainable_variables]
        found = made.get(kind)
        if force or found is None or not found.fits(depends):
            found = made[kind] = Execution(step, self.run_eagerly, depends)
        return found

    def _names(self) -> list[str] | None:
        """Returns the names of several outputs; None if there is one."""
        return None

    @property
    def metrics(self) -> list[Any]:
        """The loss, the metrics that are attributes, and those that `compile` was given."""
        found: list[Any] = [self._loss_tracker] if self._loss_tracker is not None else []
        for layer in self._flattened():
            own = (leaf for leaf in vars(layer).values() if isinstance(leaf, metrics.Metric))
            found += [metric for metric in own if all(metric is not other for other in found)]
        if self._compiled_metrics is not None:
            found += self._compiled_metrics.metrics
        if self._loss is not None:
            found += self._loss.metrics
        return found

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics."""
        return [metric.name for metric in self.metrics]

    @property
    def metrics_variables(self) -> list[Any]:
        """The states of the metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def reset_metrics(self) -> None:
        """Lets all metrics begin anew."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the metrics so far, by name, as tensors."""
        results: dict[str, Any] = {}
        for metric in self.metrics:
            result = metric.result()
            results.update(result if isinstance(result, dict) else {metric.name: result})
        return results

    # === One step ===

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the loss of a batch, with the penalties of the layers."""
        terms = []
        if self._loss is not None and y is not None:
            terms.append(self._loss(y, y_pred, sample_weight))
        terms += self.losses
        if not terms:
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`, or call "
                "`add_loss()` in a layer."
            )
        return terms[0] if len(terms) == 1 else tf.add_n(terms)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Takes a batch into the metrics, and returns all of them."""
        if self._compiled_metrics is not None and y is not None:
            self._compiled_metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Trains on one batch. A subclass may do it in its own way."""
        x, y, sample_weight = data_adapter.unpack(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss) if self._scale_loss else loss
        self._track_loss(loss, x)
        variables = self.trainable_variables
        if variables:
            gradients = tape.gradient(scaled, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        else:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluates one batch. A subclass may do it in its own way."""
        x, y, sample_weight = data_adapter.unpack(data)
        y_pred = self(x, training=False)
        self._track_loss(self.compute_loss(x, y, y_pred, sample_weight, training=False), x)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Returns the outputs of one batch. A subclass may do it in its own way."""
        x, _, _ = data_adapter.unpack(data)
        return self(x, training=False)

    def _track_loss(self, loss: Any, x: Any) -> None:
        if self._loss_tracker is not None:
            examples = nest.flatten(x)[0].shape[0]
            self._loss_tracker.update_state(loss, sample_weight=float(examples))

    # === Loops ===

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> Any:
        """Trains the model and returns its `History`.

        Args:
            x: Inputs: array, tensor, or nest of them; or an iterable of batches.
            y: Targets.
            batch_size: Number of examples in a batch, 32 by default.
            epochs: The epoch to end with.
            verbose: 0 for nothing, 1 for a bar, 2 for a line an epoch; "auto" for a bar on a
                terminal and else a line.
            callbacks: Callbacks.
            validation_split: Share of the last examples to validate with.
            validation_data: Inputs, targets and perhaps weights to validate with.
            shuffle: Whether the examples of arrays come in another order in each epoch.
            class_weight: Weights of the examples by the number of their class.
            sample_weight: Weights of the examples.
            initial_epoch: The epoch to begin with.
            steps_per_epoch: Batches of an epoch.
            validation_steps: Batches to validate with.
            validation_batch_size: Number of examples in them; `batch_size` by default.
            validation_freq: Validate after so many epochs, or after those of a list.
        """
        self._check_compiled("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = data_adapter.split(
                (x, y, sample_weight), validation_split
            )
        data = data_adapter.batches(
            x, y, sample_weight, batch_size=batch_size, shuffle=shuffle,
            class_weight=class_weight, steps=steps_per_epoch, resident=True,
        )  # fmt: skip
        validation = None
        if validation_data is not None:
            parts: tuple[Any, ...] = (validation_data,)
            if not data_adapter.is_iterable(validation_data):
                parts = data_adapter.unpack(tuple(validation_data))
            size = validation_batch_size or batch_size
            validation = data_adapter.batches(
                *parts, batch_size=size, steps=validation_steps, resident=True
            )
        calls = callbacks_module.CallbackList(
            callbacks, add_history=True, add_progbar=True, model=self, verbose=verbose,
            epochs=epochs, steps=data.steps,
        )  # fmt: skip
        self.stop_training = False
        self._initial_epoch = None
        calls.on_train_begin()
        logs: dict[str, Any] = {}
        for epoch in range(self._initial_epoch or initial_epoch, epochs):
            self.reset_metrics()
            calls.on_epoch_begin(epoch)
            logs = self._train_epoch(data, calls)
            if validation is not None and _is_due(validation_freq, epoch):
                found = self._evaluate(validation, calls.without_progress())
                logs |= {f"val_{name}": value for name, value in found.items()}
            calls.on_epoch_end(epoch, logs=logs)
            if self.stop_training:
                break
        calls.on_train_end(logs=logs)
        return calls.history

    def _train_epoch(self, data: data_adapter.Batches, calls: Any) -> dict[str, Any]:
        logs: Any = None
        train = self.make_train_function()
        with interruptible():
            for first, last, batches in data.executions(self.steps_per_execution):
                calls.on_train_batch_begin(first)
                logs = callbacks_module.Logs(train(batches))
                calls.on_train_batch_end(last, logs=logs)
                if self.stop_training:
                    break
        if logs is None:
            raise ValueError("The data had no batches to train on.")
        return dict(logs.items())

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Returns loss and metrics of data: a number, a list, or a dictionary by name."""
        self._check_compiled("evaluate")
        data = data_adapter.batches(
            x, y, sample_weight, batch_size=batch_size, steps=steps, resident=True
        )
        calls = callbacks_module.CallbackList(
            callbacks, add_progbar=True, model=self, verbose=verbose, epochs=1, steps=data.steps
        )
        logs = self._evaluate(data, calls)
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    def _evaluate(self, data: data_adapter.Batches, calls: Any) -> dict[str, Any]:
        calls.on_test_begin()
        self.reset_metrics()
        logs = callbacks_module.Logs({})
        test = self.make_test_function()
        with interruptible():
            for first, last, batches in data.executions(self.steps_per_execution):
                calls.on_test_batch_begin(first)
                logs = callbacks_module.Logs(test(batches))
                calls.on_test_batch_end(last, logs=logs)
        found = dict(logs.items())
        calls.on_test_end(logs=found)
        return found

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Returns the outputs for all examples as NumPy arrays."""
        data = data_adapter.batches(x, batch_size=batch_size, steps=steps)
        calls = callbacks_module.CallbackList(
            callbacks, add_progbar=True, model=self, verbose=verbose, epochs=1, steps=data.steps
        )
        calls.on_predict_begin()
        pending: collections.deque[Any] = collections.deque()
        done: list[Any] = []
        predict = self.make_predict_function()
        for step, batch in enumerate(data):
            calls.on_predict_batch_begin(step)
            pending.append(predict([batch]))
            if len(pending) > _AHEAD:
                done.append(nest.map_structure(np.asarray, pending.popleft()))
            calls.on_predict_batch_end(step)
        done += [nest.map_structure(np.asarray, outputs) for outputs in pending]
        calls.on_predict_end()
        if not done:
            raise ValueError("The data had no batches to predict from.")
        return nest.map_structure(lambda *parts: np.concatenate(parts), *done)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on one batch and returns loss and metrics since they were last reset."""
        self._check_compiled("train_on_batch")
        batch = self._one_batch(x, y, sample_weight, class_weight)
        return _results(self.make_train_function()([batch]), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Evaluates one batch and returns loss and metrics since they were last reset."""
        self._check_compiled("test_on_batch")
        batch = self._one_batch(x, y, sample_weight, None)
        return _results(self.make_test_function()([batch]), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs of one batch as NumPy arrays."""
        outputs = self.make_predict_function()([self._one_batch(x, None, None, None)])
        return nest.map_structure(np.asarray, outputs)

    @staticmethod
    def _one_batch(x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Any:
        count = len(data_adapter.to_array(nest.flatten(x)[0]))
        found: Iterator[Any] = iter(
            data_adapter.batches(
                x, y, sample_weight, batch_size=max(count, 1), class_weight=class_weight
            )
        )
        return next(itertools.islice(found, 1))

    def _check_compiled(self, method: str) -> None:
        if not self.compiled:
            raise ValueError(f"You must call `compile()` before calling `{method}()`.")


def _is_due(frequency: Any, epoch: int) -> bool:
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


def _results(logs: dict[str, Any], return_dict: bool) -> Any:
    found = dict(callbacks_module.Logs(logs).items())
    if return_dict:
        return found
    values = list(found.values())
    return values[0] if len(values) == 1 else values
