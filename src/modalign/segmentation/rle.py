"""Run lengths of binary masks in the two forms of COCO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def class_runs(labels: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """(value, counts) of every value in a label map, in increasing order.

    Counts are those of the binary mask ``labels == value`` read column by column: alternating lengths of runs of zeros
    and ones, beginning with zeros (possibly 0). Their sum is H · W. One pass over the pixels serves all values.

    Parameters
    ----------
    labels : array of shape (H, W)
        Non-negative integers.
    """
    flat = labels.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        edges = np.stack([starts[group], ends[group]], axis=1).ravel()
        counts = np.diff(edges, prepend=0).tolist()
        rest = flat.size - int(edges[-1])
        yield int(values[group[0]]), counts + ([rest] if rest else [])


def compress_counts(counts: Sequence[int]) -> str:
    """The compressed form: from the fourth count on the difference to the count two before, in groups of 5 bits.

    The lowest group comes first, bit 5 is set if another one follows, the last one is sign-extended. The character of
    a group is its value + 48.
    """
    text = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            group = value & 31
            value >>= 5
            last = value == (-1 if group & 16 else 0)
            text.append(chr(group + 48 if last else group + 80))
            if last:
                break
    return "".join(text)
