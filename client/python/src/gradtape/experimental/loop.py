"""Loops that the server runs by itself, without traffic in each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from gradtape import _context, _wire, nest
from gradtape._call import Call
from gradtape._execute import same_session
from gradtape._proto import command_pb2, function_pb2
from gradtape._trace_key import form_key
from gradtape.function import ConcreteFunction, Function
from gradtape.tensor import convert_to_tensor
from gradtape.tensor_shape import TensorSpec

__all__ = ["Loop", "LoopResult", "Report", "run_loop"]


@dataclasses.dataclass(frozen=True)
class Report:
    """The scalar results of one step.

    Attributes:
        step: Number of the step, from 1.
        values: The results that are scalars, in order.
    """

    step: int
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class LoopResult:
    """How a loop ended.

    Attributes:
        steps: Steps done.
        stopped: Whether it was stopped before the last.
        reports: All reports.
    """

    steps: int
    stopped: bool
    reports: tuple[Report, ...]


def run_loop(
    function: Function | ConcreteFunction,
    steps: int,
    *,
    datasets: Any = (),
    batch_size: int | None = None,
    shuffle_seed: int | None = None,
    arguments: Any = (),
    carried: int = 0,
    report_every: int = 0,
    while_result: int | None = None,
) -> Loop:
    """Lets the server call a function so many times. Returns at once.

    Each step is a call: variables, optimizers and random generators go on from step to step. A step
    that fails changes nothing, and those before it stay.

    Args:
        function: What `tf.function` made. Its arguments are batches of the datasets and then
            `arguments`, all of them tensors.
        steps: How many steps.
        datasets: Tensors whose first axis is the examples. They stay on the server.
        batch_size: Examples in a batch; all by default. What fills no batch is left out.
        shuffle_seed: Shuffles the examples, each epoch anew.
        arguments: Tensors that are the same in each step, but for those that are carried.
        carried: So many of `arguments` are replaced by the first results after each step.
        report_every: Reports the results that are scalars every so many steps; 0 for never.
        while_result: Number of a result that is a bool scalar: the loop goes on only while it is
            true, so the step that gives False is the last.
    """
    scope = _context.scope()
    session = scope.session
    sets = [convert_to_tensor(value) for value in nest.flatten(datasets)]
    others = [convert_to_tensor(value) for value in nest.flatten(arguments)]
    function = _traced(scope, function, sets, batch_size, others)
    settings = (
        (b"" if shuffle_seed is None else b"\x28" + _wire.varint(shuffle_seed))
        + _wire.number_field(7, carried)
        + _wire.number_field(9, report_every)
        + (b"\x50\x01" if report_every else b"")
        + (b"" if while_result is None else b"\x58" + _wire.varint(while_result))
    )
    outs = [session.new_handle() for _ in function._outputs.forms]
    body = _body(function, steps, sets, batch_size, others, outs) + settings
    call = Call(_wire.entry(_wire.RUN_LOOP, body, scope.tail()))
    return Loop(scope, call, _results(scope, function, outs), function)


def repeat(
    function: Function, steps: int, datasets: Any, batch_size: int, arguments: Any = ()
) -> Any:
    """Lets the server call a function so many times, and returns what the last call returns.

    Like `run_loop` without its reports and its end: the loop is a command like any other, which
    nobody waits for, and what goes wrong is raised where a number is read.

    Args:
        function: What `tf.function` made.
        steps: How many steps.
        datasets: Tensors whose first axis is the examples.
        batch_size: Examples in a batch.
        arguments: Tensors that are the same in each step.
    """
    scope = _context.scope()
    concrete = _traced(scope, function, datasets, batch_size, arguments)
    outs = [scope.session.new_handle() for _ in concrete._outputs.forms]
    body = _body(concrete, steps, datasets, batch_size, arguments, outs)
    scope.session.append(_wire.entry(_wire.RUN_LOOP, body, scope.tail()))
    return _results(scope, concrete, outs)


def _traced(
    scope: _context.Scope,
    function: Function | ConcreteFunction,
    sets: Sequence[Any],
    batch_size: int | None,
    others: Sequence[Any],
) -> ConcreteFunction:
    """Traces a function for batches of the sets and for other values, unless it has been."""

    def specs() -> Iterator[TensorSpec]:
        for value in sets:
            shape = (batch_size or value.shape[0], *value.shape[1:])
            yield TensorSpec(shape, value.dtype)
        for value in others:
            yield TensorSpec(tuple(value.shape), value.dtype)

    if isinstance(function, Function):
        forms = form_key(sets), form_key(others)
        key = None if None in forms else ("loop", batch_size, *forms)
        function = function._traced_for(scope, key, specs)
    same_session(scope.session, (function, *sets, *others))
    return function


def _body(
    function: ConcreteFunction,
    steps: int,
    sets: Sequence[Any],
    batch_size: int | None,
    others: Sequence[Any],
    outs: Sequence[bytes],
) -> bytes:
    return (
        _wire.handle_field(1, function._handle)
        + _wire.number_field(2, steps)
        + _wire.handles_field(3, [value._handle for value in sets])
        + _wire.number_field(4, batch_size or 0)
        + _wire.handles_field(6, [value._handle for value in others])
        + _wire.handles_field(8, outs)
    )


def _results(scope: _context.Scope, function: ConcreteFunction, outs: Sequence[bytes]) -> Any:
    """Returns what the function returns, with tensors of these handles."""
    for tape in scope.tapes:
        tape._signature.lose_track()
    outputs = function._outputs
    return outputs.arrange(outputs.made(scope.session, outs))


class Loop:
    """A loop that the server runs.

    Attributes:
        results: What the last step returned, in the function's structure.
    """

    def __init__(self, scope: Any, call: Call, results: Any, function: ConcreteFunction) -> None:
        self.results = results
        self._scope = scope
        self._call = call
        # What the loop calls must not be released before it is done.
        self._function: Any = function
        self._outcome: LoopResult | Exception | None = None
        self._reports: SimpleQueue[Report | None] = SimpleQueue()
        call.on_progress = lambda report: self._reports.put(_report(report))
        call.on_done = lambda: self._reports.put(None)
        scope.session.ask(call)

    def wait(self) -> LoopResult:
        """Waits for the end. Raises what went wrong: the message names the step."""
        if self._outcome is None:
            try:
                reply = self._scope.session.wait(self._call, self._scope.number)
                self._outcome = _result(reply)
            except Exception as error:
                self._outcome = error
            self._function = None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def stop(self) -> None:
        """Ends the loop after the step that it is at, and those that were begun before it."""
        self._scope.session.stop_loop(self._call)

    def reports(self) -> Iterator[Report]:
        """Yields reports as they come, up to the end. A lost connection may lose some of them."""
        while (report := self._reports.get()) is not None:
            yield report


def _report(report: function_pb2.LoopReport) -> Report:
    return Report(report.step, tuple(report.values))


def _result(reply: command_pb2.Reply) -> LoopResult:
    found = reply.loop
    return LoopResult(found.steps, found.stopped, tuple(map(_report, found.reports)))
