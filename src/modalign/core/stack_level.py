"""The line of the user's code that a warning is reported for."""

from __future__ import annotations

import sys

_OURS = ("modalign", "sklearn")


def stacklevel_outside() -> int:
    """Number of stack frames between the calling function and the user's code.

    Decorators add frames, so a constant would be wrong. A warning with this ``stacklevel`` shows the line in the user's
    code.
    """
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        depth, frame = depth + 1, frame.f_back
    return depth
