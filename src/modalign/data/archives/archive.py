"""Images in zip and tar files, read without unpacking the archive.

Archives are untrusted. Members with absolute paths or ``..``, links, members larger than
:data:`~modalign.data.blobs.SIZE_LIMIT` and damaged members are quarantined with a reason.
"""

from __future__ import annotations

import os
from pathlib import PurePath

from modalign.core.errors import InputError
from modalign.data.archives.members import Members, leaves_archive
from modalign.data.archives.tars import list_tar
from modalign.data.archives.zips import list_zip
from modalign.data.folders import assign_classes
from modalign.data.inventory import Listing, is_split_file

_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(path: PurePath) -> bool:
    """Whether a file is read as an archive, by its ending."""
    return path.name.lower().endswith(_ENDINGS)


def list_archive(path: str) -> Listing:
    """List the images of an archive, with classes as in a folder."""
    listing = Listing()
    members = Members(listing, os.path.getsize(path))
    kind = list_zip if path.lower().endswith(".zip") else list_tar
    try:
        kind(path, members)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"Expected an archive whose table of contents fits into memory, '{path}' is larger.") from None
    except Exception as error:  # damaged bytes make the readers raise anything
        raise InputError(f"Expected an archive, '{path}' cannot be read as one: {error}; pack it again.") from None
    name = os.path.basename(path)
    stem = next(name[: -len(e)] for e in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(e))
    for document in [name for name in members.found if is_split_file(name)]:
        listing.skip(document, members.found.pop(document))
    assign_classes(listing, members.found, sorted(members.folders), archive=stem)
    return listing


__all__ = ["is_archive", "leaves_archive", "list_archive"]
