"""Shared code of all local servers: addresses, access checks, and error responses."""

from modalign.app.web.access import Access, is_loopback, listen
from modalign.app.web.error_replies import error_handlers, error_reply
from modalign.app.web.guard import WRITE_HEADER, Guard
from modalign.app.web.running import run_app

__all__ = ["WRITE_HEADER", "Access", "Guard", "error_handlers", "error_reply", "is_loopback", "listen", "run_app"]
