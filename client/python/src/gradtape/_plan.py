"""What the server says of how it computes a function."""

from __future__ import annotations

import dataclasses

from gradtape._proto import function_pb2, tensor_pb2
from gradtape.dtypes import BY_NUMBER
from gradtape.tensor_shape import TensorSpec


@dataclasses.dataclass(frozen=True)
class PlanStep:
    """One step of a plan.

    Attributes:
        ops: Names of its ops. Several are elementwise ones that go through memory together, and
            then the reductions that read these on the way.
        inputs: What it reads.
        outputs: What it writes.
        flops: About how many arithmetic operations it takes.
        workspace_bytes: Bytes that it needs for itself while it runs.
    """

    ops: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flops: int
    workspace_bytes: int

    def __str__(self) -> str:
        def shapes(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{spec.dtype.name}{list(spec.shape or ())}" for spec in specs)

        return (
            f"{', '.join(self.ops)}({shapes(self.inputs)}) -> {shapes(self.outputs)}, "
            f"{self.flops:,} flops"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the server computes a function: what it rewrote and joined, in order.

    Attributes:
        steps: The steps, at most 1,024.
        elided: How many in the middle are left out.
        peak_bytes: Most bytes that a call takes at one time.
    """

    steps: tuple[PlanStep, ...]
    elided: int
    peak_bytes: int

    @classmethod
    def of(cls, reply: function_pb2.PlanReply) -> Plan:
        """Reads a plan from the server's answer."""
        steps = (
            PlanStep(
                tuple(step.ops),
                tuple(map(_described, step.inputs)),
                tuple(map(_described, step.outputs)),
                step.flops,
                step.workspace_bytes,
            )
            for step in reply.steps
        )
        return cls(tuple(steps), reply.elided, reply.peak_bytes)

    def __str__(self) -> str:
        lines = [f"{i:5} {step}" for i, step in enumerate(self.steps)]
        if self.elided:
            lines.insert(len(lines) // 2, f"      ... {self.elided} steps")
        total = len(self.steps) + self.elided
        return "\n".join([f"{total} steps, {self.peak_bytes:,} bytes at the peak", *lines])


def _described(spec: tensor_pb2.TensorSpec) -> TensorSpec:
    return TensorSpec(tuple(spec.shape), BY_NUMBER[spec.dtype])
