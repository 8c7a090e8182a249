"""Adapters for the frameworks that people build with: a module for each, which needs that framework.

    langchain     LangChainRetriever, LangChainEmbeddings, LangChainReranker
    llama_index   LlamaIndexRetriever, LlamaIndexEmbedding, LlamaIndexReranker
    haystack      HaystackRetriever, HaystackRanker, HaystackTextEmbedder, HaystackDocumentEmbedder
    pyterrier     PyTerrierRetriever, PyTerrierReranker
    mteb          MtebEncoder, MtebCrossEncoder

Each takes an open `Engine`, the URL of a server, the folder of a collection, or what `connect` made of one of them.
Nothing here imports a framework; a module does, and raises MissingPackage with the pip command where it is not there.
"""

from .backend import AnyBackend, Source, connect

__all__ = ["AnyBackend", "Source", "connect"]
