"""The images of a request: its body, or the files of a form."""

from __future__ import annotations

import logging

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

FORM = "multipart/form-data"
_FIELDS = 8  # of a form beside its files; they are ignored

# It logs errors of a form; without a handler, the log goes to the terminal.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


async def read_images(request: Request, max_images: int) -> list[tuple[str, bytes]]:
    """(name, bytes) of every image of a request.

    The body is one image, of a content type ``image/…`` or ``application/octet-stream``, or a form whose files are
    images. The size of the body is limited by the :class:`~modalign.app.web.guard.Guard`.

    Parameters
    ----------
    request : Request
        Not read yet.
    max_images : int
        Files of a form.

    Raises
    ------
    HTTPException
        415 for another content type, 413 for too many files, 422 for a body without an image, 400 for a broken form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        images = await _files(request, max_images)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        body = await request.body()
        images = [("0", body)] if body else []
    else:
        raise HTTPException(
            415, f"Expected one image (image/…, application/octet-stream) or a form of images ({FORM}), got '{kind}'."
        )
    if not images:
        raise HTTPException(422, "Expected an image, got an empty body.")
    return images


async def _files(request: Request, max_images: int) -> list[tuple[str, bytes]]:
    try:
        async with request.form(max_files=max_images, max_fields=_FIELDS, max_part_size=2**16) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(file.filename or str(i), await file.read()) for i, file in enumerate(files)]
    except HTTPException as error:
        if "Too many" not in str(error.detail):
            raise
        raise HTTPException(
            413, f"Expected at most {max_images} images and {_FIELDS} other fields in one request, got more."
        ) from None
