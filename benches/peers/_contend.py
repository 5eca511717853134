"""How a contender of the Python side talks with the bench that started it.

The bench starts one process for each contender: `python with_torch.py seed torch-eager`. When the
contender has warmed up it prints one line of JSON about itself; for each line on standard input it
then takes one sample and prints it, a JSON object of values by row. So samples of all contenders
alternate, and no sample pays for an import.
"""

import dataclasses
import json
import os
import sys
import time


@dataclasses.dataclass
class Contender:
    """Something to measure, warmed up.

    Attributes:
        sample: Takes a sample: values by row.
        outcome: Numbers that all contenders of a bench must agree on.
        note: What the reader should know: warm-up, threads, how a row was scaled.
    """

    sample: object
    outcome: list = dataclasses.field(default_factory=list)
    note: str = ""


def main(contenders, versions):
    """Runs the contender that the arguments name: a bench, a name, and `--quick` for less work."""
    # Libraries print to standard output what is not meant for the bench.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        print(json.dumps(message), file=answers, flush=True)

    bench, name = sys.argv[1:3]
    contender = contenders[bench, name]("--quick" in sys.argv)
    outcome = [float(number) for number in contender.outcome]
    say({"versions": versions, "outcome": outcome, "note": contender.note})
    for _ in sys.stdin:
        say(contender.sample())


# Runs of a whole loop in one sample: a single compiled one is too short for a clock, and whoever
# loops is asked alike. `src/ours/seed.rs` has the same number.
LOOP_RUNS = 20


def timed(row, work, per=1.0, runs=1):
    """Returns a sampler of the mean seconds of some runs of `work`, divided by `per`."""

    def sample():
        start = time.perf_counter()
        for _ in range(runs):
            work()
        return {row: (time.perf_counter() - start) / (per * runs)}

    return sample


def training(step, read, quick, note):
    """A contender that trains: `step(i)` trains on batch `i`, and `read` waits for its loss."""
    outcome = [read(step(i)) for i in range(5)]
    steps = 10 if quick else 50

    def work():
        for i in range(steps):
            loss = step(i)
        read(loss)

    work()
    note = f"warm-up {5 + steps} steps; a sample is {steps} steps, with one loss read; {note}"
    return Contender(timed("step", work, per=steps), outcome, note)
