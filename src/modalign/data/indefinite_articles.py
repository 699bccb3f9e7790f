"""Indefinite articles for class names: "a cat", "an owl", no article for plurals."""

from __future__ import annotations

import re

# Exceptions: words with a vowel letter and a consonant sound, and words with a silent h.
_CONSONANT_SOUND = re.compile(r"uni(?!n|m)|use|usu|uti|usb|ufo|uv\b|eu|ewe|one\b|once|ukulele|u\b", re.IGNORECASE)
_VOWEL_SOUND = re.compile(r"[aeiou]|hour|honest|honou?r|heir|8|1[18]\b", re.IGNORECASE)
_SPELLED_OUT = re.compile(r"[FHLMNRSX](?:[B-DF-HJ-NP-TV-XZ\d]*\b|-)|SUV\b|MRI\b|LED\b")  # "an LED lamp", "an X-ray"

_HEAD = re.compile(
    r",| \(|[ -](?:of|with|in|on|at|for|from|without|under|near)\b"
)  # end of the part that determines singular or plural
_IRREGULAR_PLURALS = {
    "cacti", "cattle", "children", "dice", "emus", "feet", "fungi", "geese", "kiwis", "lice", "men", "menus",
    "mice", "oxen", "people", "police", "skis", "taxis", "teeth", "women",
}  # fmt: skip
_SINGULAR_IN_S = {
    "alias", "asbestos", "atlas", "bias", "biceps", "canvas", "cerastes", "chaos", "christmas", "cosmos",
    "cyclops", "diabetes", "flandres", "gas", "hermes", "herpes", "lens", "mars", "mathematics", "mercedes",
    "news", "pancreas", "patas", "physics", "pyrenees", "rhinoceros", "series", "species", "texas", "thermos",
    "triceps", "triceratops",
}  # fmt: skip
_PLURAL = re.compile(
    r"[a-zà-ÿ]{2,}(?<![sui'])s|\w*(?:women|people|children)|(?:police|fire|fisher|snow|business)men", re.IGNORECASE
)


def is_plural(name: str) -> bool:
    """Return whether an English class name is probably a plural: ``airplanes``, but not ``chest of drawers``."""
    words = re.findall(r"[\w'’]+", _HEAD.split(name, maxsplit=1)[0])
    if not words or (len(words[-1]) <= 4 and words[-1].isupper()):  # "GPS"
        return False
    word = words[-1].casefold()
    return word in _IRREGULAR_PLURALS or (word not in _SINGULAR_IN_S and _PLURAL.fullmatch(word) is not None)


def starts_with_vowel(name: str) -> bool:
    """Return whether an English class name probably starts with a vowel sound: ``owl``, ``hour hand``, ``X-ray``."""
    if _SPELLED_OUT.match(name):
        return True
    return _VOWEL_SOUND.match(name) is not None and _CONSONANT_SOUND.match(name) is None


def with_article(pattern: str, name: str) -> str:
    """Adapt the article "a" before ``{}`` in ``pattern`` to ``name``: keep it, change it to "an", or omit it."""
    if is_plural(name):
        return re.sub(r"\b[Aa] (?=\{\})", "", pattern)
    return re.sub(r"\b([Aa]) (?=\{\})", r"\1n ", pattern) if starts_with_vowel(name) else pattern
