"""Run lengths of binary masks in the two forms of COCO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from modalign.core.errors import InputError


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


def decode_counts(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The binary mask (H, W), bool, of counts as :func:`class_runs` writes them.

    Parameters
    ----------
    counts : sequence of int
        Lengths of the runs.
    size : tuple of (int, int)
        (int, int) Height and width.

    Raises
    ------
    InputError
        A count is negative, or their sum is not H · W.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    height, width = size
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise InputError(f"Expected run lengths that sum to {height} · {width}, got the sum {lengths.sum()}.")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


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


def expand_counts(text: str) -> list[int]:
    """The counts of a compressed form; inverse of :func:`compress_counts`.

    Raises
    ------
    InputError
        A character is none of the 64, or the text ends inside a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InputError(f"Expected characters '0' to 'o' in compressed run lengths, got {character!r}.")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)  # sign extension: 2^shift less
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise InputError("Expected whole numbers in compressed run lengths, got a text that ends inside of one.")
    return counts
