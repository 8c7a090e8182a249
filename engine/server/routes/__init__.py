"""One module a dialect; each has a `router`."""

from . import admin, nim, openai, pages, probes, rerank, search, tei

__all__ = ["ROUTERS", "admin", "probes"]
# A request is compared with one route after the other.
ROUTERS = (search.router, probes.router, tei.router, rerank.router, openai.router, nim.router, pages.router)
