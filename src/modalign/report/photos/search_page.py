"""Page of a search: the photos in order."""

from __future__ import annotations

from pathlib import Path

from modalign.audit.searching import SearchResult
from modalign.core.record import versions
from modalign.data.items import Items
from modalign.report.page import Page, PageSection
from modalign.report.photos.photo_groups import PhotoGroups, photo_group
from modalign.report.run_tables import Table
from modalign.report.text import count, without_folders

SHOWN = 200  # photos


def save_search_page(found: SearchResult, path: str | Path, items: Items | None = None) -> Path:
    """Write the page of a search, atomically.

    Parameters
    ----------
    found : SearchResult
        Result of :func:`~modalign.audit.searching.search_images`.
    path : str or Path
        The page to write.
    items : Items or None, default=None
        The searched images, to show photos.
    """
    query = without_folders(found.query)
    page = Page(
        query,
        f"The {count(len(found.hits), 'image')} of {found.images:,} with the highest cosine, nearest first.",
        record={
            "query": query,
            "images": found.images,
            "encoder": None if found.spec is None else f"{found.spec.name} ({found.spec.fingerprint[:12]})",
            "versions": versions(),
        },
    )
    block: PageSection
    if items is None:
        header, rows = found.table
        block = Table(header, [[without_folders(cell) for cell in row] for row in rows])
    else:
        shown = found.hits[:SHOWN]
        block = PhotoGroups(
            [
                photo_group(items, [hit.id], f"{i}. {hit.label}".strip(), f"cosine {hit.cosine:.3f}")
                for i, hit in enumerate(shown, 1)
            ]
        )
    hidden = len(found.hits) - SHOWN
    page.section("Images", f"{hidden:,} more are not shown." if hidden > 0 and items is not None else "", blocks=block)
    return page.save(path)
