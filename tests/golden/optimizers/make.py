"""Computes the golden numbers of optimizers and schedules.

python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 torch==2.15.0
KERAS_BACKEND=tensorflow /tmp/venv/bin/python make.py keras
/tmp/venv/bin/python make.py torch

Each case is ten steps of one optimizer on a matrix and a vector.
Rows of the matrix' gradients are given in parts, so that they can be sent dense or sparse with
duplicate rows; the oracle sees them summed.
"""

import json
import sys
from pathlib import Path

import numpy as np

STEPS, ROWS, COLUMNS = 10, 4, 3
HERE = Path(__file__).parent
# The rows that a step's sparse gradient has; the last is a duplicate.
INDICES = [2, 0, 2]
COMMON = [
    {},
    {"weight_decay": 0.05},
    {"clipnorm": 0.5},
    {"clipvalue": 0.2},
    {"global_clipnorm": 0.5},
]


def inputs():
    """Initial values, and for each step the rows of the matrix' gradient and the vector's."""
    generator = np.random.default_rng(7)
    draw = lambda *shape: generator.normal(size=shape).round(3).astype(np.float32)
    return [draw(ROWS, COLUMNS), draw(COLUMNS)], [
        (draw(len(INDICES), COLUMNS), draw(COLUMNS)) for _ in range(STEPS)
    ]


def dense(rows):
    matrix = np.zeros((ROWS, COLUMNS), np.float32)
    np.add.at(matrix, INDICES, rows)
    return matrix


def flat(values):
    return [float(x) for value in values for x in np.asarray(value).reshape(-1)]


def write(name, cases):
    initial, gradients = inputs()
    head = {
        "shapes": [[ROWS, COLUMNS], [COLUMNS]],
        "initial": [flat([x]) for x in initial],
        "indices": INDICES,
        "gradients": [[flat([g]) for g in step] for step in gradients],
    }
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
    rows = ",\n".join(f"    {json.dumps(case)}" for case in cases)
    lines.append(f'  "cases": [\n{rows}\n  ]')
    (HERE / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{name}: {len(cases)} cases")


# === Keras ===

KERAS = {
    "sgd": ("SGD", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]),
    "adam": ("Adam", [{}, {"amsgrad": True}, {"epsilon": 0.1}]),
    "adamw": ("AdamW", [{}]),
    "adamax": ("Adamax", [{}]),
    "nadam": ("Nadam", [{}]),
    "lamb": ("Lamb", [{}]),
    "rmsprop": ("RMSprop", [{}, {"momentum": 0.9}, {"centered": True}]),
    "adagrad": ("Adagrad", [{}]),
    "adadelta": ("Adadelta", [{}]),
    "ftrl": (
        "Ftrl",
        [
            {},
            {
                "l1_regularization_strength": 0.01,
                "l2_regularization_strength": 0.02,
                "l2_shrinkage_regularization_strength": 0.03,
                "beta": 0.1,
            },
        ],
    ),
    "lion": ("Lion", [{}]),
    "adafactor": ("Adafactor", [{}]),
    "muon": ("Muon", [{}]),
}
STAGES = [
    {"gradient_accumulation_steps": 3},
    {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "weight_decay": 0.05},
    {"loss_scale_factor": 4.0},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
]
RATES = {"adadelta": 1.0}


def keras_trajectory(kind, hyperparameters):
    import keras

    initial, gradients = inputs()
    variables = [keras.Variable(x) for x in initial]
    optimizer = getattr(keras.optimizers, KERAS[kind][0])(**hyperparameters)
    trajectory = []
    for rows, vector in gradients:
        steps = [keras.ops.convert_to_tensor(g) for g in (dense(rows), vector)]
        optimizer.apply(steps, variables)
        trajectory.append(flat(variables))
    return trajectory


def schedule_free(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=None, clip=None):
    """By the paper's formulas (arXiv 2405.15682) in float64: Keras 3.15 uses the wrong iterate."""
    initial, gradients = inputs()
    theta = [x.astype(np.float64) for x in initial]
    z, v = [x.copy() for x in theta], [np.zeros_like(x) for x in theta]
    trajectory = []
    for t, (rows, vector) in enumerate(gradients, 1):
        steps = [dense(rows).astype(np.float64), vector.astype(np.float64)]
        for i, g in enumerate(clip(steps) if clip else steps):
            if weight_decay:
                theta[i] = theta[i] - learning_rate * weight_decay * theta[i]
            v[i] = beta_2 * v[i] + (1 - beta_2) * g * g
            x = (theta[i] - (1 - beta_1) * z[i]) / beta_1
            z[i] = z[i] - learning_rate * g / (np.sqrt(v[i] / (1 - beta_2**t)) + epsilon)
            x = x + (z[i] - x) / t
            theta[i] = (1 - beta_1) * z[i] + beta_1 * x
        trajectory.append(flat(theta))
    return trajectory


def clipping(name, limit):
    if name == "clipvalue":
        return lambda gs: [np.clip(g, -limit, limit) for g in gs]
    norm = lambda gs: np.sqrt(sum((g * g).sum() for g in gs))
    if name == "clipnorm":
        return lambda gs: [g * limit / max(norm([g]), limit) for g in gs]
    return lambda gs: [g * limit / max(norm(gs), limit) for g in gs]


def keras():
    cases = []

    def add(kind, given, values):
        cases.append({"optimizer": kind, "hyperparameters": given, "values": values})

    for kind, (_, own) in KERAS.items():
        rate = {"learning_rate": RATES.get(kind, 0.1)}
        for given in [{**rate, **more} for more in [*own, *COMMON[1:]]]:
            add(kind, given, keras_trajectory(kind, given))
        for given in [{**rate, **own[-1], **more} for more in COMMON[1:]] if len(own) > 1 else []:
            add(kind, given, keras_trajectory(kind, given))
    for kind in ("sgd", "adam"):
        for more in STAGES:
            given = {"learning_rate": 0.1, **more}
            add(kind, given, keras_trajectory(kind, given))
    for more in COMMON:
        given = {"learning_rate": 0.1, **more}
        [(name, limit)] = more.items() or [(None, None)]
        clip = clipping(name, limit) if name and name.startswith(("clip", "global")) else None
        values = schedule_free(0.1, weight_decay=more.get("weight_decay"), clip=clip)
        add("schedule_free_adamw", given, values)
    write("keras", cases)
    schedules()


SCHEDULES = {
    "exponential_decay": ("ExponentialDecay", {"decay_steps": 100, "decay_rate": 0.5}, [{}, {"staircase": True}]),
    "inverse_time_decay": ("InverseTimeDecay", {"decay_steps": 100, "decay_rate": 0.5}, [{}, {"staircase": True}]),
    "polynomial_decay": (
        "PolynomialDecay",
        {"decay_steps": 100},
        [{}, {"end_learning_rate": 0.01, "power": 2.0}, {"cycle": True, "power": 0.5}],
    ),
    "cosine_decay": (
        "CosineDecay",
        {"decay_steps": 100},
        [{}, {"alpha": 0.1}, {"warmup_target": 0.3, "warmup_steps": 50}],
    ),
    "cosine_decay_restarts": (
        "CosineDecayRestarts",
        {"first_decay_steps": 50},
        [{}, {"t_mul": 1.0}, {"t_mul": 1.5, "m_mul": 0.8, "alpha": 0.1}],
    ),
}
AT = [0, 1, 2, 25, 49, 50, 51, 75, 99, 100, 101, 149, 150, 151, 200, 250, 300, 349, 350, 700]


def schedules():
    """The rates of Keras' schedules; those that it does not have are compared with PyTorch's."""
    import keras

    cases = []
    for kind, (name, base, variants) in SCHEDULES.items():
        for more in variants:
            given = {"initial_learning_rate": 0.1, **base, **more}
            schedule = getattr(keras.optimizers.schedules, name)(**given)
            rates = [float(schedule(step)) for step in AT]
            cases.append({"schedule": kind, "class": name, "arguments": given, "rates": rates})
    given = {"boundaries": [50, 100, 300], "values": [1.0, 0.5, 0.1, 0.01]}
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(**given)
    rates = [float(schedule(step)) for step in AT]
    name = "PiecewiseConstantDecay"
    cases.append({"schedule": "piecewise_constant_decay", "class": name, "arguments": given, "rates": rates})
    write_schedules(cases, "keras")


def write_schedules(cases, oracle):
    path = HERE / "schedules.json"
    known = json.loads(path.read_text())["cases"] if path.exists() else []
    cases = [case for case in known if case["oracle"] != oracle] + [{"oracle": oracle, **case} for case in cases]
    rows = ",\n".join(f"    {json.dumps(case)}" for case in cases)
    path.write_text(f'{{\n  "steps": {AT},\n  "cases": [\n{rows}\n  ]\n}}\n')
    print(f"schedules: {len(cases)} cases")


# === PyTorch ===

TORCH = {
    # Our hyperparameters, and PyTorch's for the same.
    "sgd": ("SGD", [({}, {}), ({"momentum": 0.9}, {"momentum": 0.9}), ({"momentum": 0.9, "nesterov": True},) * 2]),
    "adam": ("Adam", [({"epsilon": 1e-8}, {}), ({"epsilon": 1e-8, "amsgrad": True}, {"amsgrad": True})]),
    "adamw": ("AdamW", [({"epsilon": 1e-8, "weight_decay": 0.01}, {})]),
    "adamax": ("Adamax", [({"epsilon": 1e-8}, {})]),
    "nadam": ("NAdam", [({"epsilon": 1e-8}, {})]),
    "rmsprop": (
        "RMSprop",
        [
            ({"rho": 0.99, "epsilon": 1e-8}, {}),
            ({"rho": 0.99, "epsilon": 1e-8, "momentum": 0.9, "centered": True}, {"momentum": 0.9, "centered": True}),
        ],
    ),
    "adagrad": ("Adagrad", [({"initial_accumulator_value": 0.0, "epsilon": 1e-10}, {})]),
    "adadelta": ("Adadelta", [({"rho": 0.9, "epsilon": 1e-6}, {})]),
}


def torch_trajectory(kind, theirs, common):
    import torch

    initial, gradients = inputs()
    variables = [torch.nn.Parameter(torch.tensor(x)) for x in initial]
    decay = {"weight_decay": common["weight_decay"]} if "weight_decay" in common else {}
    optimizer = getattr(torch.optim, TORCH[kind][0])(variables, **{"lr": 0.1, **theirs, **decay})
    trajectory = []
    for rows, vector in gradients:
        for variable, gradient in zip(variables, (dense(rows), vector)):
            variable.grad = torch.tensor(gradient)
        if "clipnorm" in common:
            for variable in variables:
                torch.nn.utils.clip_grad_norm_([variable], common["clipnorm"])
        if "global_clipnorm" in common:
            torch.nn.utils.clip_grad_norm_(variables, common["global_clipnorm"])
        if "clipvalue" in common:
            torch.nn.utils.clip_grad_value_(variables, common["clipvalue"])
        optimizer.step()
        trajectory.append(flat([variable.detach().numpy() for variable in variables]))
    return trajectory


def torch():
    import torch as library

    cases = []
    for kind, (_, variants) in TORCH.items():
        for common in COMMON:
            for ours, theirs in variants if not common else variants[:1]:
                given = {"learning_rate": 0.1, **ours, **common, "compat": "torch"}
                values = torch_trajectory(kind, theirs, common)
                cases.append({"optimizer": kind, "hyperparameters": given, "values": values})
    write("torch", cases)

    rates = []
    optimizer = library.optim.SGD([library.nn.Parameter(library.zeros(1))], lr=0.1)
    schedule = library.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=701, pct_start=0.25)
    for step in range(701):
        if step in AT:
            rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step() if step < 700 else None
    given = {"max_learning_rate": 0.5, "total_steps": 701, "pct_start": 0.25}
    write_schedules([{"schedule": "one_cycle", "class": "OneCycle", "arguments": given, "rates": rates}], "torch")


if __name__ == "__main__":
    for oracle in sys.argv[1:]:
        {"keras": keras, "torch": torch}[oracle]()
