"""Local web pages and servers; they need the extra ``app`` (fastapi, uvicorn)."""
