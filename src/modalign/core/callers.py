"""Where in the caller's own code a warning belongs."""

from __future__ import annotations

import sys

_OURS = ("modalign", "sklearn")


def stacklevel_outside() -> int:
    """How many frames up from the function that calls this one the caller of the library is.

    Decorators and helpers lie between the two, so that no constant is right. A warning with this ``stacklevel`` shows
    the caller's line.
    """
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        depth, frame = depth + 1, frame.f_back
    return depth
