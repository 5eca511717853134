"""Writes `double.txt`: arguments and true values of functions of float64, for the tests beside this folder.

A line is the function, its arguments and the value as a sum of two, all but the first as the bits of a float64.
Needs mpmath: `python make.py > double.txt`.
"""

import math
import random
import struct

import mpmath
from mpmath import mpf

ROWS = 150

uniform = random.uniform


def bits(x):
    return struct.pack(">d", x).hex()


def power_of_two(low, high):
    """A number of either sign whose logarithm is uniform."""
    return random.choice([-1, 1]) * 2 ** uniform(low, high)


def quarter_turn():
    """A number as near to a multiple of pi / 2 as a float64 can be."""
    return float(random.randint(1, 600_000) * mpmath.pi / 2)


def angle():
    return random.choice([uniform(-1e6, 1e6), uniform(-9, 9), power_of_two(-60, 19), quarter_turn()])


def base_and_exponent():
    """Two numbers whose power is neither 0 nor infinite."""
    x = random.choice([abs(power_of_two(-1073, 1023)), 1 + power_of_two(-45, -2), uniform(0.1, 10)])
    return x, uniform(-1060, 1020) / math.log2(x)


def one(function, argument):
    return function, lambda: (argument(),)


FUNCTIONS = {
    "exp": one(mpmath.exp, lambda: random.choice([uniform(-744, 709), uniform(-2, 2), power_of_two(-60, 9)])),
    "exp_m1": one(mpmath.expm1, lambda: random.choice([uniform(-40, 709), uniform(-1, 1), power_of_two(-60, 9)])),
    "ln": one(mpmath.log, lambda: random.choice([abs(power_of_two(-1074, 1023)), uniform(0.5, 2)])),
    "ln_1p": one(
        mpmath.log1p,
        lambda: random.choice([abs(power_of_two(-1074, 1023)), uniform(-1, 1), -(2 ** uniform(-60, -0.01))]),
    ),
    "sin": one(mpmath.sin, angle),
    "cos": one(mpmath.cos, angle),
    "tan": one(mpmath.tan, angle),
    "tanh": one(mpmath.tanh, lambda: random.choice([uniform(-20, 20), uniform(-0.6, 0.6), power_of_two(-60, 4)])),
    "sigmoid": one(
        lambda x: 1 / (1 + mpmath.exp(-x)), lambda: random.choice([uniform(-744, 40), uniform(-5, 5)])
    ),
    "erf": one(mpmath.erf, lambda: random.choice([uniform(-6, 6), uniform(-1.2, 1.2), power_of_two(-60, 2)])),
    "erfc": one(mpmath.erfc, lambda: random.choice([uniform(-6, 27), uniform(-1, 2), power_of_two(-60, 4)])),
    "pow": (mpmath.power, base_and_exponent),
}

random.seed(1)
mpmath.mp.prec = 300
for name, (function, arguments) in FUNCTIONS.items():
    for _ in range(ROWS):
        given = arguments()
        truth = function(*map(mpf, given))
        high = float(truth)
        print(name, *map(bits, given), bits(high), bits(float(truth - high)))
