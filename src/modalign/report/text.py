"""Text for pages and figures: escaped, and without private folder names."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from modalign.core.display import visible

_FOLDERS = re.compile(r"(?<![\w.:/\\~-])(?:file://)?(?:[A-Za-z]:)?[/\\]{1,2}(?:[^/\\\s'\"+<>|]+[/\\])+(?=[^/\\\s])")
"""Matches the folders of an absolute path, POSIX or Windows; the name follows."""


def one_line(text: str) -> str:
    """Return text in one line: white space folded, and control characters as escapes."""
    return visible(" ".join(text.split()))


def without_folders(text: str) -> str:
    """Return ``text`` with every absolute path cut to its last part, so that a page contains no private folder names.

    Paths below the home folder, the working folder and the temporary folder are recognized also where they hold spaces.
    """
    own = {os.getcwd(): ".", tempfile.gettempdir(): "tmp", str(Path.home()): "~"}
    for folder in sorted(own, key=len, reverse=True):
        if len(Path(folder).parts) > 2:  # the root and its children are not private
            text = text.replace(folder + os.sep, "").replace(folder, own[folder])
    return _FOLDERS.sub("", text)


def shorten(name: str, length: int) -> str:
    """One line of at most ``length`` characters, with an ellipsis where some are missing."""
    name = one_line(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def fact(n: int, noun: str) -> tuple[str, str]:
    """A number and its noun, as an entry of the facts of a page: ``("1", "image")``, ``("1,797", "images")``."""
    number, _, words = count(n, noun).partition(" ")
    return number, words


def count(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun: ``1 image``, ``1,797 images``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
