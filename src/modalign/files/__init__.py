"""Reading and writing files safely: every reader refuses damage in one sentence, every writer is atomic.

Reading lives in :mod:`~modalign.files.reading` and :mod:`~modalign.files.arrays`, writing in
:mod:`~modalign.files.writing`.
"""

from modalign.files.arrays import read_npz
from modalign.files.reading import not_regular, open_regular, parse_json, read_bytes, read_json, read_text
from modalign.files.writing import check_writable, replacing, sweep, write

__all__ = [
    "check_writable",
    "not_regular",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_npz",
    "read_text",
    "replacing",
    "sweep",
    "write",
]
