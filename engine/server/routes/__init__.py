"""One module a dialect; each has a `router`."""

from . import admin, cohere, documents, nim, openai, pages, probes, rerank, search, tei, tokens, vllm

__all__ = ["ROUTERS", "admin", "probes"]
# A request is compared with one route after the other.
ROUTERS = tuple(
    each.router for each in (search, probes, tei, tokens, rerank, openai, vllm, cohere, nim, pages, documents)
)
