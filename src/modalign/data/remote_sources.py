"""A folder, table, archive or image behind an address as a listing."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from urllib.parse import urljoin, urlsplit

from modalign.core.errors import InputError
from modalign.data.archives.archive import is_archive, list_archive
from modalign.data.blobs import Blob
from modalign.data.inventory import Listing, has_image_suffix
from modalign.data.remote import RemoteBlob, fetch, kept_copy, list_remote_folder, remote_address
from modalign.data.tables import is_table, list_rows


def list_address(address: str) -> Listing:
    """The images behind an address.

    An archive is copied to this machine until the process ends. Rows of a table are relative to its address; one that
    names another server or bucket is quarantined.

    Raises
    ------
    InputError
        Nothing can be read there.
    MissingExtraError
        A package for such addresses is not installed.
    """
    name = file_name(address)
    if is_archive(name):
        return list_archive(str(kept_copy(address)))
    if is_table(name):
        text = fetch(address, "a table")
        base = address.split("?")[0].rsplit("/", 1)[0] + "/"
        try:
            return list_rows(text.decode("utf-8-sig"), name, base, partial(file_below, base))
        except UnicodeDecodeError as error:
            raise InputError(f"Expected a table in UTF-8, '{address}' is not (byte {error.start}).") from None
    if has_image_suffix(name.name):
        listing = Listing()
        listing.add(name.name, RemoteBlob(address))
        return listing
    return list_remote_folder(address)


def file_name(address: str) -> PurePosixPath:
    """The last part of an address, without a query."""
    return PurePosixPath(address.split("?")[0].rstrip("/").rsplit("/", 1)[-1])


def file_below(base: str, name: str) -> tuple[str, Blob | None, str]:
    """Resolve a row of a table behind an address: return its address, and the file or the reason for refusing it."""
    place = remote_address(name) or _joined(base, name)
    if urlsplit(place)[:2] != urlsplit(base)[:2]:
        return place, None, "an address of another server or bucket than the table"
    return place, RemoteBlob(place), ""


def _joined(base: str, name: str) -> str:
    """Return ``name`` relative to ``base``; :func:`urljoin` supports relative paths for few schemes only."""
    scheme, _, rest = base.partition("://")
    return f"{scheme}{urljoin(f'https://{rest}', name).removeprefix('https')}"
