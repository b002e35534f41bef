"""The dual form of the margin curvature in plain numpy: prints the CPU seconds that it takes for all members.

fit.py ROWS.npy MEMBERS HIDDEN INPUT CLASSES, of the rows that `benches/attribution.rs` makes: of each member the output
side of the first layer, of the first member its input side (which all share), then both sides of the second layer.
"""

import sys
import time

import numpy as np

DAMPING_RATIO = 0.3 / 512


def inverse_of(modules, own, trained):
    """(D K' D + c I)^-1 for the kernel K' of factored gradients, each module a pair of matrices."""
    kernel = sum((u @ u.T) * (v @ v.T) for u, v in modules)
    factors = np.sqrt(trained * (1 - trained)) / np.maximum(own, 1e-12)
    kernel *= factors[:, None] * factors[None, :]
    kernel[np.diag_indices_from(kernel)] += DAMPING_RATIO * np.trace(kernel)
    return np.linalg.inv(kernel)


def main():
    path, (members, hidden, inputs, classes) = sys.argv[1], map(int, sys.argv[2:6])
    rows = np.load(path).astype(np.float64)
    own = (np.arange(len(rows)) % 9 + 1) / 10
    trained = np.full(len(rows), 0.7)
    seconds, at, shared = 0.0, 0, None
    for member in range(members):
        first = rows[:, at : at + hidden]
        at += hidden
        if member == 0:
            shared = rows[:, at : at + inputs]
            at += inputs
        second = rows[:, at : at + classes], rows[:, at + classes : at + classes + hidden + 1]
        at += classes + hidden + 1
        begun = time.process_time()
        inverse_of([(first, shared), second], own, trained)
        seconds += time.process_time() - begun
    print(seconds)


if __name__ == "__main__":
    main()
