"""The studio as a web application: a page, its data, and its changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from modalign.app.studio.exporting import FOLDERS, TABLES, export_folders, export_table
from modalign.app.studio.gallery import placeholder
from modalign.app.studio.labeling import Labeling
from modalign.app.studio.model_saving import FINAL, MODEL, save_session_model
from modalign.app.studio.row_queries import MOST_ROWS, RowQuery, find_rows, row_entries, session_summary
from modalign.app.studio.session import Session
from modalign.app.studio.sets.set_labeling import SetLabeling
from modalign.app.web import Access, Guard, error_handlers
from modalign.app.web.query_parameters import CHECKED_QUERY
from modalign.core.display import visible
from modalign.core.errors import InputError
from modalign.report.style import style_sheet

_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # an address has the hash of its content
_MOST_BODY = 2**22  # bytes of a request: a label for some hundred thousand images

Rows = Annotated[list[StrictInt], Field(max_length=500_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _LabelBody(_Body):
    rows: Rows
    of: StrictInt | Literal["none"] | Annotated[list[StrictInt], Field(max_length=10_000)] | None
    how: Literal["set", "add", "remove"] = "set"
    since: int | None = None


class _ClassBody(_Body):
    add: str | None = None
    rename: tuple[StrictInt, str] | None = None
    merge: tuple[StrictInt, StrictInt] | None = None


class _QueryBody(_Body):
    show: str = "all"
    order: str = "given"
    predicted: int | None = None
    labeled: int | Literal["none"] | None = None
    to: int | None = None
    text: str = Field("", max_length=300)
    offset: int = Field(0, ge=0)
    limit: int = Field(100, ge=0, le=MOST_ROWS)
    only_rows: bool = False


class _RowsBody(_Body):
    rows: Annotated[list[int], Field(max_length=MOST_ROWS)]


def studio_app(session: Session, access: Access) -> ASGIApp:
    """The application of a session, behind its guard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=error_handlers())
    own = files("modalign.app.studio")
    page = own.joinpath("templates/studio.html").read_text(encoding="utf-8")
    app.mount("/static", StaticFiles(packages=[("modalign.app.studio", "static")]))

    @app.get("/")
    def read_page() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/colors.css")
    def read_colors() -> Response:
        return Response(style_sheet(), media_type="text/css")

    @app.get("/favicon.ico")
    def read_icon() -> Response:
        return Response(status_code=204)

    @app.get("/{size}/{content}.webp")
    def read_picture(size: str, content: str) -> Response:
        found = session.gallery.picture(content, size)
        if found is None:
            return Response(placeholder(), media_type="image/svg+xml")
        return Response(found, media_type="image/webp", headers=_FOREVER)

    _add_readers(app, session)
    _add_changes(app, session)
    _add_exports(app, session)
    return Guard(app, access, max_body=_MOST_BODY)


def _add_readers(app: FastAPI, session: Session) -> None:
    @app.get("/api/state", dependencies=CHECKED_QUERY)
    def read_state(known: int = -1) -> Any:
        if known == session.version:
            return {"version": known, "jobs": {"fast": session.fast.state(), "slow": session.slow.state()}}
        return JSONResponse(session_summary(session))

    @app.post("/api/rows")
    def read_rows(body: _QueryBody) -> Any:
        query = body.model_dump(exclude={"offset", "limit", "only_rows"})
        with session.lock:
            rows = find_rows(session, RowQuery(**query))
            if body.only_rows:
                return JSONResponse({"version": session.version, "rows": rows.tolist()})
            shown = rows[body.offset : body.offset + body.limit].tolist()
            entries = row_entries(session, shown)
            return JSONResponse({"version": session.version, "total": len(rows), "entries": entries})

    @app.post("/api/entries")
    def read_entries(body: _RowsBody) -> Any:
        rows = [row for row in body.rows if 0 <= row < len(session.labeling)]
        return JSONResponse({"version": session.version, "entries": row_entries(session, rows)})

    @app.get("/api/next", dependencies=CHECKED_QUERY)
    def read_next(by: str = "both", count: int = 10) -> Any:
        with session.lock:
            rows = session.next_rows(by, min(max(count, 1), 100))
            return JSONResponse({"version": session.version, "entries": row_entries(session, rows)})

    @app.get("/api/map", dependencies=CHECKED_QUERY)
    def read_map() -> Any:
        with session.lock:
            found = session.positions
            if found is None:
                session.slow.request("map", session.draw_map)
                return JSONResponse({"rows": [], "places": [], "by": None})
            rows, places, by = found
            labels, predicted = session.map_labels()[rows], session.predicted[rows]
            points = (places * 10_000).round().astype(int).tolist()
            return JSONResponse(
                {"rows": rows.tolist(), "places": points, "by": by, "labels": labels.tolist(),
                 "predicted": predicted.tolist(), "version": session.version}
            )  # fmt: skip


def _add_changes(app: FastAPI, session: Session) -> None:
    @app.post("/api/label")
    def label(body: _LabelBody) -> Any:
        others = session.change(lambda labeling: _label(labeling, body))
        return {"version": session.version, "stamp": session.labeling.stamp, "others": others}

    @app.post("/api/undo")
    def undo() -> Any:
        return {"undone": session.change(lambda labeling: labeling.undo()), "version": session.version}

    @app.post("/api/classes")
    def change_classes(body: _ClassBody) -> Any:
        if sum(part is not None for part in (body.add, body.rename, body.merge)) != 1:
            raise HTTPException(422, "Expected one of add, rename and merge.")
        if body.add is not None:
            name = body.add
            return {"id": session.change(lambda labeling: labeling.add_class(name))}
        if body.rename is not None:
            number, name = body.rename
            session.change(lambda labeling: labeling.rename_class(number, name))
        if body.merge is not None:
            number, into = body.merge
            session.change(lambda labeling: labeling.merge_classes(number, into))
        return {"version": session.version}

    @app.post("/api/refit")
    def request_refit() -> Any:
        session.fast.request("refit", session.refit_now)
        session.slow.request("thorough refit", lambda: session.refit_now(thorough=True))
        return {"version": session.version}


def _label(labeling: Labeling, body: _LabelBody) -> int:
    if isinstance(labeling, SetLabeling):
        if body.of is not None and not isinstance(body.of, list):
            raise InputError(f"Expected a list of class numbers, or null, got {body.of!r}.")
        return labeling.label_sets(body.rows, body.of, how=body.how, since=body.since)
    if isinstance(body.of, list) or body.how != "set":
        raise InputError("Expected the number of one class, since this studio has one class per image, got a list.")
    return labeling.label(body.rows, body.of, since=body.since)


def _add_exports(app: FastAPI, session: Session) -> None:
    @app.get("/api/export/{name}", dependencies=CHECKED_QUERY)
    def read_table(name: str) -> Response:
        if name not in TABLES:
            raise HTTPException(404, "There is no such export.")
        kind = "text/csv; charset=utf-8" if name.endswith(".csv") else "application/json"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(export_table(session, name), media_type=kind, headers=headers)

    @app.post("/api/export/{name}")
    def write_export(name: str) -> Any:
        works: dict[str, Callable[[], object]] = {
            FOLDERS: partial(export_folders, session),
            MODEL: partial(save_session_model, session),
            FINAL: partial(save_session_model, session, with_exam=True),
        }
        if name not in works:
            raise HTTPException(404, "There is no such export.")
        session.slow.request(name, works[name])
        return {"folder": visible(str(session.labeling.log.folder / name))}
