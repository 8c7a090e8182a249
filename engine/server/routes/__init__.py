"""One module a dialect; each has a `router`."""

from . import nim, openai, ours, pages, probes, rerank, tei

ROUTERS = (probes.router, ours.router, tei.router, rerank.router, openai.router, nim.router, pages.router)
