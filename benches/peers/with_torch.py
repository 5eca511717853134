"""PyTorch, eager."""

import functools
import time

import numpy as np
import torch
import torch.nn.functional as F

import _contend
import _keras
import _models


def seed(quick):
    """The tutorial's loop."""
    x, y = (torch.tensor(values, dtype=torch.float32) for values in _keras.seed_data())

    def work():
        w = torch.tensor(0.1, requires_grad=True)
        b = torch.tensor(0.1, requires_grad=True)
        for _ in range(1000):
            loss = torch.abs(y - (w * x + b)).sum()
            dw, db = torch.autograd.grad(loss, (w, b))
            with torch.no_grad():
                w -= 0.001 * dw
                b -= 0.001 * db
        return w.item(), b.item()

    outcome = work()
    return _contend.Contender(_contend.timed("1000 steps", work), outcome, "warm-up 1000 steps")


def trained(parameters, batches, forward, quick):
    """Measures the steps of a training loop."""
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(
        parameters,
        lr=_models.LEARNING_RATE,
        betas=(_models.BETA_1, _models.BETA_2),
        eps=_models.EPSILON,
    )

    def step(i):
        x, y = batches[i % len(batches)]
        scores = forward(parameters, x)
        loss = F.cross_entropy(scores.view(-1, scores.shape[-1]), y.view(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    note = f"eager, {torch.get_num_threads()} threads (its default), batches resident"
    return _contend.training(step, lambda loss: loss.item(), quick, note)


def tensors_of(arrays):
    """Tensors with the numbers of arrays."""
    return [torch.tensor(array) for array in arrays]


def resident(batches):
    """Batches as tensors; class numbers are 64 bits wide here."""
    return [(torch.tensor(x), torch.tensor(y.astype(np.int64))) for x, y in batches]


def mlp(quick):
    """Two dense layers."""
    w1, b1, w2, b2 = tensors_of(_models.mlp())

    def forward(parameters, x):
        w1, b1, w2, b2 = parameters
        return F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)

    parameters = [w1.t().contiguous(), b1, w2.t().contiguous(), b2]
    return trained(parameters, resident(_models.mlp_batches()), forward, quick)


def cnn(quick):
    """Two convolutions and a dense layer."""
    k1, b1, k2, b2, w, b = tensors_of(_models.cnn())
    side, channels = _models.CNN["side"] // 4, _models.CNN["filters"][1]
    # Channels come before rows and columns here.
    w = w.view(side, side, channels, -1).permute(3, 2, 0, 1).reshape(w.shape[1], -1)
    kernels = [k.permute(3, 2, 0, 1).contiguous() for k in (k1, k2)]

    def forward(parameters, x):
        k1, b1, k2, b2, w, b = parameters
        x = F.max_pool2d(F.relu(F.conv2d(x, k1, b1, padding=1)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, k2, b2, padding=1)), 2)
        return F.linear(x.flatten(1), w, b)

    batches = [(x.permute(0, 3, 1, 2).contiguous(), y) for x, y in resident(_models.cnn_batches())]
    return trained([kernels[0], b1, kernels[1], b2, w.contiguous(), b], batches, forward, quick)


def gpt(quick):
    """A transformer."""
    width, heads, depth = (_models.GPT[name] for name in ("width", "heads", "depth"))
    # Kernels are transposed here; tables are not.
    tables, rest = tensors_of(_models.gpt())[:2], tensors_of(_models.gpt())[2:]
    parameters = [*tables, *(p.t().contiguous() if p.dim() == 2 else p for p in rest)]

    def norm(x, gain, offset):
        return F.layer_norm(x, (width,), gain, offset, _models.LAYER_NORM_EPSILON)

    def block(x, p):
        batch, length, _ = x.shape
        qkv = F.linear(norm(x, p[0], p[1]), p[2], p[3])
        q, k, v = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(batch, length, width)
        x = x + F.linear(y, p[4], p[5])
        y = F.gelu(F.linear(norm(x, p[6], p[7]), p[8], p[9]))
        return x + F.linear(y, p[10], p[11])

    def forward(p, ids):
        x = F.embedding(ids, p[0]) + p[1]
        for i in range(depth):
            x = block(x, p[2 + 12 * i : 14 + 12 * i])
        gain, offset, w, b = p[2 + 12 * depth :]
        return F.linear(norm(x, gain, offset), w, b)

    batches = [(x.long(), y) for x, y in resident(_models.gpt_batches())]
    return trained(parameters, batches, forward, quick)


def ops(quick):
    """The kernel sweep. Rows are named as in `benches/src/ours/ops.rs`."""
    torch.set_grad_enabled(False)

    def normal(*shape):
        return torch.tensor(_models.uniform(1, shape, 1.0))

    elementwise = {
        "add": lambda x: x + x,
        "exp": torch.exp,
        "tanh": torch.tanh,
        "gelu": F.gelu,
        "reduce_sum": torch.sum,
        "softmax": lambda x: torch.softmax(x, -1),
        "layer_normalization": lambda x: F.layer_norm(x, (256,)),
    }
    cases = {}
    for name, op in elementwise.items():
        for rows in (4, 256, 16384):
            cases[f"{name} {rows}x256"] = functools.partial(op, normal(rows, 256))
    for n in (64, 256, 1024):
        x = normal(n, n)
        cases[f"matmul {n}x{n}"] = functools.partial(torch.matmul, x, x)
    for side, inputs, outputs in ((28, 1, 32), (14, 32, 64)):
        x, filters = normal(64, inputs, side, side), normal(outputs, inputs, 3, 3)
        name = f"convolution {side}x{side}x{inputs} to {outputs}"
        cases[name] = functools.partial(F.conv2d, x, filters, padding=1)

    least = 0.01 if quick else 0.05
    # A few calls decide how many make up a sample.
    calls = {}
    for name, case in cases.items():
        case()
        start = time.perf_counter()
        for _ in range(3):
            case()
        calls[name] = max(1, int(3 * least / (time.perf_counter() - start)))

    def sample():
        seconds = {}
        for name, case in cases.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                case()
            seconds[name] = (time.perf_counter() - start) / calls[name]
        return seconds

    return _contend.Contender(sample, note=f"{torch.get_num_threads()} threads (its default)")


def machine(quick):
    """What the machine can do: the rates of a large product and of a large copy.

    Of the copy, reading and writing count.
    """
    n, bytes_ = 2048, 256 << 20
    x = torch.rand(n, n)
    source = torch.ones(bytes_ // 4)
    target = torch.empty_like(source)

    def seconds(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def sample():
        return {
            "peak arithmetic": 2 * n**3 / seconds(lambda: x @ x),
            "peak memory": 2 * bytes_ / seconds(lambda: target.copy_(source)),
        }

    sample()
    return _contend.Contender(sample, note="product of 2048x2048 matrices; copy of 256 MiB")


CONTENDERS = {
    ("seed", "torch-eager"): seed,
    ("mlp", "torch-eager"): mlp,
    ("cnn", "torch-eager"): cnn,
    ("gpt", "torch-eager"): gpt,
    ("ops", "torch"): ops,
    ("ops", "machine"): machine,
}

if __name__ == "__main__":
    _contend.main(CONTENDERS, {"torch": torch.__version__, "numpy": np.__version__})
