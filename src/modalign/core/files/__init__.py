"""Safe file access: readers detect damaged files, and writers are atomic.

Reading lives in :mod:`~modalign.core.files.reading` and :mod:`~modalign.core.files.npz`, writing in
:mod:`~modalign.core.files.writing`, and the format of models and checkpoints in :mod:`~modalign.core.files.cards`.
"""

from modalign.core.files.appending import append_line
from modalign.core.files.cards import CardFormat
from modalign.core.files.locking import sole_use, take_lock
from modalign.core.files.new_folders import new_folder
from modalign.core.files.npz import damaged_contents, read_npz
from modalign.core.files.reading import (
    NotRegularError,
    address_of,
    is_regular,
    local_path,
    open_file,
    open_regular,
    parse_json,
    path_error,
    plain_path,
    read_bytes,
    read_error_reason,
    read_json,
    read_text,
    require_path,
)
from modalign.core.files.writing import (
    check_writable,
    make_folder,
    remove_temporary_files,
    replacing,
    require_own_folder,
    write,
)

__all__ = [
    "CardFormat",
    "NotRegularError",
    "address_of",
    "append_line",
    "check_writable",
    "damaged_contents",
    "is_regular",
    "local_path",
    "make_folder",
    "new_folder",
    "open_file",
    "open_regular",
    "parse_json",
    "path_error",
    "plain_path",
    "read_bytes",
    "read_error_reason",
    "read_json",
    "read_npz",
    "read_text",
    "remove_temporary_files",
    "replacing",
    "require_own_folder",
    "require_path",
    "sole_use",
    "take_lock",
    "write",
]
