"""AdamW's moments in few bits, in numpy: how far the weights move off the way of exact moments. python moments.py

Random gradients of 16 blocks of 256 elements, whose sizes differ (log-normal, deviation 1.5) and whose mean is a fifth of
their noise; beta 0.9 and 0.999. Halfway the gradients fade to a tenth, in the second table. What is compared: rounding to the
nearest or at random; 8 bits with the second moment coded as bitsandbytes does, or its root; bf16.
"""

import numpy as np

rng = np.random.default_rng(0)
BLOCKS, WIDTH = 16, 256


def dynamic_map(signed):
    """The 256 values of bitsandbytes' create_dynamic_map."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = np.linspace(0.1, 1, 2 ** (decade + (not signed)) + 1)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        values += list(means) + (list(-means) if signed else [])
    return np.sort(values)


SIGNED, UNSIGNED = dynamic_map(True), dynamic_map(False)


def coded(x, code, chance):
    signed = code[0] < 0
    scale = np.maximum(x.max(1), -x.min(1) / -code[0] if signed else 0)[:, None]
    scale[scale == 0] = 1
    y = x / scale
    low = np.clip(np.searchsorted(code, y, side="right") - 1, 0, 254)
    part = (y - code[low]) / (code[low + 1] - code[low])
    found = low + (part > rng.random(y.shape) if chance else part >= 0.5)
    return code[found if signed else np.where(x > 0, np.maximum(found, 1), found)] * scale


def bf16(x, chance):
    bits = x.astype(np.float32).view(np.uint32)
    add = rng.integers(0, 65536, x.shape).astype(np.uint32) if chance else np.uint32(0x7FFF) + (bits >> 16 & 1)
    return ((bits + add) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def root(v):
    return coded(np.sqrt(v), UNSIGNED, False) ** 2


FORMS = {
    "8 bits as bitsandbytes": (lambda m: coded(m, SIGNED, False), lambda v: coded(v, UNSIGNED, False)),
    "8 bits, root of the second": (lambda m: coded(m, SIGNED, False), root),
    "8 bits, at random": (lambda m: coded(m, SIGNED, True), lambda v: coded(v, UNSIGNED**2, True)),
    "bf16, to the nearest": (lambda m: bf16(m, False), lambda v: bf16(v, False)),
    "bf16, at random": (lambda m: bf16(m, True), lambda v: bf16(v, True)),
}

for fades in (False, True):
    for steps in (100, 500, 3000):
        size = np.exp(rng.normal(0, 1.5, (BLOCKS, WIDTH))) * 1e-4
        mean = size * 0.2 * rng.normal(size=(BLOCKS, WIDTH))
        exact = np.zeros((3, BLOCKS, WIDTH))
        states = {name: np.zeros((3, BLOCKS, WIDTH)) for name in FORMS}
        for step in range(1, steps + 1):
            fade = 0.1 if fades and step > steps // 2 else 1
            gradient = (mean + size * rng.normal(size=(BLOCKS, WIDTH))) * fade
            for name, state in [("exact", exact), *states.items()]:
                state[0] = 0.9 * state[0] + 0.1 * gradient
                state[1] = 0.999 * state[1] + 0.001 * gradient**2
                state[2] += state[0] / (1 - 0.9**step) / (np.sqrt(state[1] / (1 - 0.999**step)) + 1e-8)
                if name != "exact":
                    state[0], state[1] = FORMS[name][0](state[0]), FORMS[name][1](state[1])
        print(f"{steps} steps" + (", fading halfway" if fades else ""))
        for name, state in states.items():
            off = np.linalg.norm(state[2] - exact[2]) / np.linalg.norm(exact[2])
            ratio = np.median(state[1] / exact[1])
            print(f"  {name:28} weights {100 * off:5.1f} % off the way, second moment {ratio:.3f} of the exact one")
