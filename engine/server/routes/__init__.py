"""One module a dialect; each has a `router`."""

from . import admin, nim, openai, ours, pages, probes, rerank, tei

__all__ = ["ROUTERS", "admin", "probes"]
ROUTERS = (probes.router, ours.router, tei.router, rerank.router, openai.router, nim.router, pages.router)
