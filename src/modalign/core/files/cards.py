"""Cards: a JSON file that describes a model or training state, and one safetensors file referenced by its hash.

The tensors are written first, under a name that contains their hash. Then the new card replaces the old one in a single
rename, so readers get either the old state or the new one. Neither file contains code. A card contains a digest of its
content, so damage and manual edits are detected.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError
from modalign.core.files.reading import open_regular, read_json
from modalign.core.files.writing import make_folder, require_own_folder, write

DIGEST = "digest"
CARD_LIMIT = 2**26
"""Bytes of the largest card that is read."""


@dataclass(frozen=True)
class CardFormat:
    """File format of one kind of card.

    Attributes
    ----------
    family : str
        Name of the format; the entry ``format`` of a card is ``family/version``.
    version : int
        Current version. Older versions can be read; version 1 has no digest.
    what : str
        What the card describes, for messages: "a model".
    file : str
        File name of the card.
    entries : dict
        Entry → its allowed types.
    tensors : str
        Name of the entry that holds the name of the tensor file, and prefix of that name.
    labels : tuple of tuple of str
        Paths of entries for display, which are not part of the digest.
    advice, edits : str
        For messages: what to do with a damaged card, and how to change its entries correctly.
    """

    family: str
    version: int
    what: str
    file: str
    entries: Mapping[str, type | tuple[type, ...]]
    tensors: str
    labels: tuple[tuple[str, ...], ...] = ()
    advice: str = ""
    edits: str = ""

    def name_of(self, data: bytes) -> str:
        """Return the name of the tensor file with this content."""
        return f"{self.tensors}-{hashlib.sha256(data).hexdigest()}.safetensors"

    def is_tensor_file(self, name: str) -> bool:
        """Return whether a file name is that of a tensor file of this format."""
        return re.fullmatch(rf"{self.tensors}-[0-9a-f]{{64}}\.safetensors", name) is not None

    def check_folder(self, folder: str | Path) -> None:
        """Raise unless a card can be written to ``folder``; to be called before a long computation."""
        require_own_folder(folder, self.what, self.file, self.is_tensor_file)

    def write(self, folder: Path, entries: Mapping[str, Any], data: bytes) -> None:
        """Write tensors and card, replacing those in the folder.

        Raises
        ------
        InputError
            The folder cannot be written; its previous content is unchanged.
        """
        make_folder(folder)
        name = self.name_of(data)
        text = self.sealed({**entries, self.tensors: name})
        write(folder / name, data)
        write(folder / self.file, text)
        for old in folder.iterdir():
            if self.is_tensor_file(old.name) and old.name != name:
                with suppress(OSError):  # the new state is there; what is left over is removed by the next writer
                    old.unlink()

    def sealed(self, entries: Mapping[str, Any]) -> str:
        """Return the text of a card with its entries, format and digest."""
        card = json.loads(json.dumps({"format": f"{self.family}/{self.version}", **entries}, allow_nan=False))
        return json.dumps(card | {DIGEST: self.digest(card)}, indent=2, ensure_ascii=False)  # digest as it is read

    def digest(self, card: Mapping[str, Any]) -> str:
        """Return the SHA-256 of all entries except the digest and those for display."""
        content = {key: value for key, value in card.items() if key != DIGEST}
        for path in self.labels:
            content = _without(content, path)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def read(self, folder: Path) -> dict[str, Any]:
        """Return the entries of a card after checking format, types and digest.

        Raises
        ------
        InputError
            One sentence with the reason.
        """
        path = folder / self.file
        try:
            card = read_json(path, f"the card of {self.what}", CARD_LIMIT)
        except InputError as error:
            raise InputError(f"{error}{self.advice}") from error
        version = self._version(card, path)
        types = {"format": str, **self.entries, self.tensors: str} | ({DIGEST: str} if version > 1 else {})
        if odd := sorted(set(card) ^ set(types)):
            raise InputError(f"The card '{path}' has missing or unknown entries: {', '.join(odd)[:200]}.{self.advice}")
        for key, kind in types.items():
            if not isinstance(card[key], kind) or (isinstance(card[key], bool) and kind is int):
                got = type(card[key]).__name__
                raise InputError(f"The entry '{key}' of the card '{path}' has the wrong type {got}.{self.advice}")
        if not self.is_tensor_file(card[self.tensors]):
            raise InputError(f"The card '{path}' names {self.tensors} outside its folder: '{card[self.tensors]}'.")
        if version > 1 and card[DIGEST] != self.digest(card):
            reason = "does not match its digest: it was damaged or edited"
            raise InputError(f"The card '{path}' {reason}.{self.advice}{self.edits}")
        return card

    def read_tensors(self, folder: Path, card: Mapping[str, Any]) -> bytes:
        """Return the content of the tensor file of a card after checking its hash."""
        path = folder / card[self.tensors]
        with open_regular(path, f"the {self.tensors} of {self.what}") as file:
            data = file.read()
        if self.name_of(data) != path.name:
            raise InputError(f"The {self.tensors} in '{path}' do not match their hash: they were damaged.{self.advice}")
        return data

    def _version(self, card: object, path: Path) -> int:
        name = card.get("format") if isinstance(card, dict) else None
        found = re.fullmatch(rf"{self.family}/([1-9][0-9]{{0,8}})", name) if isinstance(name, str) else None
        if found is None:
            got = repr(name)[:80] if isinstance(card, dict) else type(card).__name__
            wanted = f"a card of format '{self.family}/{self.version}'"
            raise InputError(f"Expected {wanted} in '{path}', got {got}.{self.advice}")
        if int(found[1]) > self.version:
            raise InputError(
                f"The card '{path}' is of format {name}, and this version of modalign reads up to {self.version}; "
                "update modalign."
            )
        return int(found[1])


def _without(content: Any, path: Iterable[str]) -> Any:
    first, *rest = path
    if not isinstance(content, dict) or first not in content:
        return content
    if not rest:
        return {key: value for key, value in content.items() if key != first}
    return content | {first: _without(content[first], rest)}
