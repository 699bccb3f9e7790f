"""Reading and writing files safely: every reader refuses damage in one sentence, every writer is atomic.

Reading lives in :mod:`~modalign.files.reading` and :mod:`~modalign.files.arrays`, writing in
:mod:`~modalign.files.writing`, and what both know of models and checkpoints in :mod:`~modalign.files.cards`.
"""

from modalign.files.appending import append_line
from modalign.files.arrays import damaged_contents, read_npz
from modalign.files.cards import CardFormat
from modalign.files.reading import (
    NotRegularError,
    is_regular,
    open_file,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    require_path,
    why_no_path,
    why_unreadable,
)
from modalign.files.writing import check_writable, make_folder, replacing, require_own_folder, sweep, write

__all__ = [
    "CardFormat",
    "NotRegularError",
    "append_line",
    "check_writable",
    "damaged_contents",
    "is_regular",
    "make_folder",
    "open_file",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_npz",
    "read_text",
    "replacing",
    "require_own_folder",
    "require_path",
    "sweep",
    "why_no_path",
    "why_unreadable",
    "write",
]
