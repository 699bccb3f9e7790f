"""Matching of names regardless of case, separators, and American or British spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import zip_longest

from modalign.core.display import visible

_AMERICAN = tuple(
    (re.compile(british), american)
    for british, american in (
        (r"(?<=[a-z]{2})our(?=s?(?: |$|ed|ing|hood))", "or"),  # neighbours
        (r"(?<=[a-z])is(?=e|ing|ation)", "iz"),  # optimiser, normalising
        (r"(?<=[a-z])ll(?=ed|er|ing)", "l"),  # unlabelled, labeller
        (r"centre", "center"),
        (r"grey", "gray"),
    )
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")  # such as a zero-width space or a byte order mark
_NEGATIVE = re.compile(r"\s*-\d+(\.\d+)?\s*")


def normalize(name: str) -> str:
    """Normalize case, underscores, hyphens and repeated blanks: ``Grand_Piano`` equals ``grand piano``.

    Unicode is normalized as well, for example é written as one character or as two, and characters without width are
    left out. The sign of a number stays.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _INVISIBLE.sub("", name)).casefold())
    if _NEGATIVE.fullmatch(folded):
        return folded.strip()
    return " ".join(re.sub(r"[_\-\s]+", " ", folded).split())


def is_blank(name: str) -> bool:
    """Return whether a name has no visible character, only white space, controls and characters without width."""
    return all(unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp") for character in name)


def numeral(text: str) -> int | None:
    """Return the integer that ``text`` represents with up to 18 digits, or None."""
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= 18 else None


def spelling_key(name: str) -> str:
    """Key that is equal for names that differ by case, blanks, hyphens, underscores or American and British spelling.

    The result is for comparison only: "noise" becomes "noize" as "optimiser" becomes "optimizer".
    """
    name = normalize(name)
    for british, american in _AMERICAN:
        name = british.sub(american, name)
    return name.replace(" ", "")


def nearest(got: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar name in ``known``, or None if no name is similar."""
    by_key: dict[str, str] = {}
    for name in known:
        by_key.setdefault(spelling_key(name), name)
    close = get_close_matches(spelling_key(got), by_key, n=1, cutoff=cutoff)
    return by_key[close[0]] if close else None


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` with the nearest of ``known``, or ""."""
    close = nearest(got, known)
    return f" Did you mean '{close}'?" if close else ""


def quoted(names: Sequence[str], limit: int = 5, details: Sequence[str] = ()) -> str:
    """Return the first few names for a message, control characters escaped, with details in parentheses."""
    words = [f"'{visible(name)}'" for name in names[:limit]]
    shown = ", ".join(f"{name} ({detail})" if detail else name for name, detail in zip_longest(words, details[:limit]))
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def join_alternatives(names: Iterable[str]) -> str:
    """``.csv, .json or .parquet``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def plural_key(name: str) -> str:
    """Key that is equal for singular and plural and for different separators: ``Motorbikes`` and ``motor_bike``."""
    bare = re.sub(r"[\W_]", "", normalize(name))
    return bare.removesuffix("s") if len(bare) > 3 else bare


def match_names(wanted: Iterable[str], known: Iterable[str], *, plural: bool = False) -> dict[str, str]:
    """Match wanted names with known names; names with no match or several matches are omitted.

    An exact match has priority over a match after :func:`normalize`, which has priority over a match by
    :func:`plural_key` (with ``plural``). The order of the names has no effect.
    """
    known = tuple(dict.fromkeys(known))
    exact = set(known)
    forgiving = [_only(known, key) for key in ((normalize, plural_key) if plural else (normalize,))]
    keys = (normalize, plural_key)
    found = {}
    for name in wanted:
        same = (by_key.get(key(name)) for key, by_key in zip(keys, forgiving, strict=False))
        match = name if name in exact else next((other for other in same if other is not None), None)
        if match is not None:
            found[name] = match
    return found


def _only(names: Sequence[str], key: Callable[[str], str]) -> dict[str, str | None]:
    """Return key → its name, or None if several names have the key."""
    found: dict[str, str | None] = {}
    for name in names:
        found[key(name)] = None if key(name) in found else name
    return found
