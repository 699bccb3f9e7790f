"""Parameters in the query of a request: known ones, each once."""

from __future__ import annotations

from collections import Counter

from fastapi import Depends
from starlette.requests import Request

from modalign.core.display import visible
from modalign.core.errors import InputError, UnknownNameError

_MOST_SHOWN = 60  # characters of a name in an answer


async def check_query(request: Request) -> None:
    """Raise unless the query has only parameters of the route, in their spelling and each once.

    Raises
    ------
    InputError
        Another parameter, or one that is repeated.
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise UnknownNameError("parameter", visible(name[:_MOST_SHOWN]), known)
        if times > 1:
            raise InputError(f"Expected the parameter '{name}' once, got it {times} times; leave the others out.")


CHECKED_QUERY = [Depends(check_query)]
"""``dependencies`` of a route whose query is checked."""
