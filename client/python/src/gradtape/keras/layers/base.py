"""What every layer has: weights made on the first call, inner layers, losses, masks."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import gradtape as tf
from gradtape import nest
from gradtape.keras import (
    _configured,
    constraints,
    dtype_policies,
    initializers,
    regularizers,
    symbolic,
)
from gradtape.keras._configured import Arguments, Configured
from gradtape.keras._registry import snake_case, unused_name
from gradtape.keras.layers.tracking import Tracked
from gradtape.module import leaves
from gradtape.tensor import Value
from gradtape.variable import Variable


class _Call(NamedTuple):
    """What the outermost layer that is being called was told; the layers in it follow."""

    training: bool | None = None
    path: str = ""


_OUTSIDE = _Call()
_call: contextvars.ContextVar[_Call] = contextvars.ContextVar("call", default=_OUTSIDE)


class Layer(Tracked, Configured):
    """The base of all layers. A subclass makes its weights in `build` and computes in `call`.

    Args:
        activity_regularizer: Penalty of the outputs, added to `losses`.
        trainable: Whether its weights are trained.
        dtype: Element type of its weights, and of the floating-point inputs it computes with; or
            a policy of two types, such as "mixed_bfloat16".
        autocast: Whether floating-point inputs are cast to the type that it computes in.
        name: Name for people; one that no other layer has if it is not given.
        input_shape: Shape of one example, which the first layer of a `Sequential` may tell.
        input_dim: The last extent of that shape, where there is only one.
    """

    _arguments: Arguments
    # The dtype of the weights, and the policy that it comes from.
    dtype: tf.DType = tf.float32
    dtype_policy: dtype_policies.DTypePolicy
    # What the layer demands of its inputs: an `InputSpec`, or a nest of them.
    input_spec: Any = None
    # Whether a mask that comes with the inputs also holds for the outputs.
    supports_masking = False

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Sequence[int] | None = None,
        input_dim: int | None = None,
    ) -> None:
        super().__init__()
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(
                f"Argument `name` must be a string and cannot contain `/`. Received: name={name!r}"
            )
        self._name = name or unused_name(snake_case(type(self).__name__))
        self._named = name is not None
        self._trainable = bool(trainable)
        self.activity_regularizer: Any = regularizers.get(activity_regularizer)
        self.dtype_policy = dtype_policies.get(dtype)
        self.dtype = tf.as_dtype(self.dtype_policy.variable_dtype)
        self._compute = tf.as_dtype(self.dtype_policy.compute_dtype)
        self.autocast = autocast
        self.built = False
        self.example_shape = (input_dim,) if input_dim is not None else input_shape
        # Shapes of the outputs of the call that made the weights, for `summary`.
        self.first_outputs: list[Any] = []
        self._path = ""
        # The shapes that `build` was told, by the names of its parameters.
        self._build_shapes: dict[str, Any] | None = None
        self._weights: list[Variable] = []
        # The weights that are not cast to the type that the layer computes in.
        self._as_they_are: set[int] = set()
        # Penalties of the last call: of outputs, and those that `call` added.
        self._added_losses: list[Any] = []

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a layer, by name and as plain data."""
        given = _configured.arguments_of(self)
        policy = dtype_policies.serialize(self.dtype_policy)
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable, "dtype": policy}
        if not _configured.has_own_config(type(self)):
            config = {k: v for k, v in config.items() if _configured.takes(type(self), k)}
        old = ("input_shape", "input_dim")
        for name in (*config, *(k for k in old if not _configured.takes(type(self), k, True))):
            given.pop(name, None)
        return config | _configured.plain(given)

    def clone(self, **changes: Any) -> Any:
        """Returns a layer of the same arguments but for some, with weights of its own."""
        args, kwargs = self._arguments.calls[type(self).__init__]
        return type(self)(*args, **{**kwargs, **changes})

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes that the layer was built for."""
        shapes = self._build_shapes
        if not shapes:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer for the shapes that `get_build_config` returned."""
        if not self.built and config:
            shapes = config.get("shapes_dict")
            if shapes is None:
                self.build(config["input_shape"])
            else:
                self.build(**shapes)
            self.built = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _building(cls.build)  # type: ignore[method-assign]

    def build(self, input_shape: Any) -> None:
        """Makes the weights, now that the shape of the inputs is known.

        Args:
            input_shape: Shape of the inputs, whose first extent is None; a nest of shapes if there
                are several. A method with several parameters, such as `query_shape`, gets the
                shapes of the arguments `query` and so on.
        """
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs."""
        return args[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Builds the layer if need be, and computes the outputs.

        Args:
            *args: Those of `call`: tensors or what converts to them; floats are cast to the
                layer's dtype.
            **kwargs: Further arguments of `call`. `training` also reaches the layers in this one.
        """
        if not hasattr(self, "_weights"):
            raise RuntimeError(
                f"In layer {type(self).__name__}, you forgot to call `super().__init__()` as the "
                "first statement in the `__init__()` method."
            )
        if symbolic.is_symbolic(args, kwargs):
            return symbolic.record(self, args, kwargs)
        parameters = _parameters(type(self).call)
        if args and isinstance(args[0], list) and _all_numbers(args[0]):
            args = (tf.constant(args[0], self._compute), *args[1:])
        args = tuple(self._convert(x) for x in args)
        kwargs = {name: self._convert(x) for name, x in kwargs.items()}
        caller = _call.get()
        training = kwargs.pop("training", None) if "training" not in parameters.names else None
        given = dict(zip(parameters.names, args, strict=False)) | kwargs
        if given.get("training") is not None:
            training = given["training"]
        elif training is None:
            training = caller.training
        if training is not None and parameters.training and "training" not in given:
            kwargs["training"] = training
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        if self.input_spec is not None:
            self._check_inputs(inputs)
        mask = mask_of(inputs)
        if mask is not None and "mask" in parameters.names and given.get("mask") is None:
            kwargs["mask"] = mask
        path = f"{caller.path}/{self.name}" if caller.path else self.name
        token = _call.set(_Call(training, path))
        is_first = not self.built
        try:
            if is_first:
                self._path = path
                self._build(given)
            self._added_losses.clear()
            with self._cast_weights():
                outputs = self.call(*args, **kwargs)
        finally:
            _call.reset(token)
        if is_first:
            flat = nest.flatten(outputs)
            self.first_outputs = [leaf.shape for leaf in flat if isinstance(leaf, Value)]
        if self.activity_regularizer is not None:
            self._penalize(outputs)
        self._set_mask(inputs, outputs, mask)
        return outputs

    def _check_inputs(self, inputs: Any) -> None:
        """Raises if inputs are not as the layer's `input_spec` demands."""
        specs, given = nest.flatten(self.input_spec), nest.flatten(inputs)
        if len(specs) != len(given):
            raise ValueError(
                f'Layer "{self.name}" expects {len(specs)} input(s), but it received {len(given)}.'
            )
        for spec, each in zip(specs, given, strict=True):
            if spec is not None:
                spec.check(each, self.name)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Puts what is built in the block under this layer's path."""
        caller = _call.get()
        path = f"{caller.path}/{self.name}" if caller.path else self.name
        token = _call.set(caller._replace(path=path))
        try:
            yield
        finally:
            _call.reset(token)

    def _build(self, given: dict[str, Any]) -> None:
        names = [name for name in _parameters(type(self).build).names if name.endswith("_shape")]
        if len(names) > 1:
            arguments = {name: given.get(name.removesuffix("_shape")) for name in names}
            shapes = {k: symbolic.shapes_of(x) for k, x in arguments.items() if x is not None}
            self._build_shapes = shapes
            self.build(**shapes)
        else:
            shape = symbolic.shapes_of(next(iter(given.values()), None))
            self._build_shapes = {"input_shape": shape}
            self.build(shape)
        self.built = True

    @contextlib.contextmanager
    def _cast_weights(self) -> Iterator[None]:
        """Lets attributes of the layer be its weights in the type that it computes in."""
        if self._compute is self.dtype:
            yield
            return
        own: dict[str, Any] = {}
        cast: dict[str, Any] = {}
        for name, value in vars(self).items():
            if self._is_cast(value):
                own[name], cast[name] = value, tf.cast(value, self._compute)
            elif isinstance(value, list) and name != "_weights" and any(map(self._is_cast, value)):
                items = [tf.cast(v, self._compute) if self._is_cast(v) else v for v in value]
                own[name], cast[name] = value, items
        vars(self).update(cast)
        try:
            yield
        finally:
            vars(self).update(own)

    def _is_cast(self, value: Any) -> bool:
        """Says whether it is a weight that the layer sees in the type that it computes in."""
        return (
            isinstance(value, Variable)
            and value.dtype is self.dtype
            and id(value) not in self._as_they_are
        )

    def _penalize(self, outputs: Any) -> None:
        for output in nest.flatten(outputs):
            # Keras divides by the number of examples, so that batches of any size weigh the same.
            penalty = self.activity_regularizer(output)
            self._added_losses.append(penalty / max(output.shape[0], 1))

    def _set_mask(self, inputs: Any, outputs: Any, mask: Any) -> None:
        masks = self.compute_mask(inputs, mask)
        if masks is None:
            return
        found = nest.flatten(masks)
        for output, each in zip(nest.flatten(outputs), found, strict=False):
            if isinstance(output, tf.Tensor):
                output._keras_mask = each

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns which time steps of the outputs count, or None."""
        return previous_mask if self.supports_masking else None

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that belongs to this layer.

        Args:
            shape: Its shape.
            initializer: Its first value, or who makes it; Glorot uniform by default.
            dtype: Its dtype, by default the layer's.
            trainable: Whether it is trained.
            autocast: Whether the layer sees it in the type that it computes in.
            regularizer: Penalty of its value, added to `losses`.
            constraint: What is applied to it after each step of an optimizer.
            aggregation: Ignored: there is one replica.
            overwrite_with_gradient: Must be False.
            name: Its name.
        """
        if overwrite_with_gradient:
            raise ValueError("A weight that its gradient replaces is made by quantised training.")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        make = initializers.get("glorot_uniform" if initializer is None else initializer)
        name = name or "variable"
        path = f"{self._path or self.name}/{name}"
        value = make(shape, dtype=tf.as_dtype(dtype or self.dtype))
        variable = Variable(value, trainable=trainable, name=path)
        variable.name, variable.path = name, path
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        self._weights.append(variable)
        if not autocast:
            self._as_they_are.add(id(variable))
        return variable

    def add_variable(self, shape: Any, initializer: Any, *args: Any, **kwargs: Any) -> Variable:
        """Makes a variable that belongs to this layer; see `add_weight`."""
        return self.add_weight(shape, initializer, *args, **kwargs)

    def add_kernel(self, shape: Any, kind: tuple[Any, Any, Any], name: str) -> Variable:
        """Makes a variable of a kind: its initializer, its regularizer and its constraint."""
        initializer, regularizer, constraint = kind
        return self.add_weight(
            shape, initializer, regularizer=regularizer, constraint=constraint, name=name
        )

    def add_loss(self, loss: Any) -> None:
        """Adds penalties that `call` computed to `losses`, until the next call."""
        self._added_losses.extend(loss if isinstance(loss, (list, tuple)) else [loss])

    @property
    def losses(self) -> list[Any]:
        """Penalties of the last call and of the weights, of this layer and of those in it."""
        layers = self._flattened()
        added = [loss for layer in layers for loss in layer._added_losses]
        return added + [
            variable.regularizer(variable)
            for variable in self.trainable_variables
            if variable.regularizer is not None
        ]

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype that the layer computes in."""
        return self._compute.name

    @property
    def variable_dtype(self) -> str:
        """Name of the dtype of the weights."""
        return self.dtype.name

    @property
    def input_dtype(self) -> str:
        """Name of the dtype that floating-point inputs are cast to."""
        return self._compute.name

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic outputs for symbolic inputs."""
        return self(*args, **kwargs)

    symbolic_call = compute_output_spec

    def compute_output_shape(self, *args: Any) -> Any:
        """Returns the shape of the outputs for inputs of a shape, whose batch may be None."""
        outputs = self(*(symbolic.inputs_of(shape) for shape in args))
        shapes = [output.shape for output in nest.flatten(outputs)]
        return shapes[0] if len(shapes) == 1 else shapes

    def add_metric(self, *args: Any, **kwargs: Any) -> None:
        """Does not exist any more in Keras 3 either: assign a metric to an attribute instead."""
        raise NotImplementedError(
            "Layer `add_metric()` is deprecated: add your metric as an attribute, and update it."
        )

    # === Inputs ===

    def _convert(self, x: Any) -> Any:
        """Converts arrays to tensors and floats to the layer's dtype, in nests too."""
        if isinstance(x, Value):
            if self.autocast and x.dtype.is_floating and x.dtype is not self._compute:
                cast = tf.cast(x, self._compute)
                cast._keras_mask = getattr(x, "_keras_mask", None)
                return cast
            return x
        if hasattr(x, "__array__"):
            array = np.asarray(x)
            kind = array.dtype.kind
            if kind == "f":
                return tf.constant(array, self._compute if self.autocast else None)
            if kind in "iu" and array.dtype.itemsize < 4:
                return tf.constant(array.astype(np.int32))
            return tf.constant(array) if kind in "iub" else x
        if isinstance(x, (list, tuple)) and x:
            items = [self._convert(item) for item in x]
            return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
        if isinstance(x, dict):
            return {key: self._convert(item) for key, item in x.items()}
        return x

    def _floating(self, x: Value) -> Value:
        """Casts integers, which Keras' layers with weights take too, to the layer's dtype."""
        return x if x.dtype.is_floating else tf.cast(x, self._compute)

    def _widened(self, x: Value) -> Value:
        """Casts half precision, in which means and variances would be lost, to single."""
        x = self._floating(x)
        return tf.cast(x, tf.float32) if x.dtype.size < 4 else x

    @property
    def input(self) -> Any:
        """The symbolic inputs of the last symbolic call."""
        return symbolic.node_of(self).inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs of the last symbolic call."""
        return symbolic.node_of(self).outputs

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _all_numbers(x: list[Any]) -> bool:
    return bool(x) and all(isinstance(leaf, (int, float)) for leaf in leaves(x))


def mask_of(x: Any) -> Any:
    """Returns the mask that a tensor carries, or a list of masks for a list; None without any."""
    if isinstance(x, (list, tuple)):
        masks = [getattr(item, "_keras_mask", None) for item in x]
        return masks if any(mask is not None for mask in masks) else None
    return getattr(x, "_keras_mask", None)


class _Parameters(NamedTuple):
    names: tuple[str, ...]
    training: bool


@functools.cache
def _parameters(function: Callable[..., Any]) -> _Parameters:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    passed_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return _Parameters(names, "training" in names or passed_on)


def _building(build: Callable[..., None]) -> Callable[..., None]:
    """Lets a program call `build` itself: the first call then does not do so again."""

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.built = True

    return wrapper
