from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("query", "collection", "options", "without_text")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    query: str
    collection: str
    options: _struct_pb2.Struct
    without_text: bool
    def __init__(self, query: _Optional[str] = ..., collection: _Optional[str] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., without_text: _Optional[bool] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("rank", "id", "document", "text", "title", "metadata", "score", "relevance", "recall_score", "recall_rank", "rerank_score", "lexical_score")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    RECALL_SCORE_FIELD_NUMBER: _ClassVar[int]
    RECALL_RANK_FIELD_NUMBER: _ClassVar[int]
    RERANK_SCORE_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    id: str
    document: str
    text: str
    title: str
    metadata: _struct_pb2.Struct
    score: float
    relevance: float
    recall_score: float
    recall_rank: int
    rerank_score: float
    lexical_score: float
    def __init__(self, rank: _Optional[int] = ..., id: _Optional[str] = ..., document: _Optional[str] = ..., text: _Optional[str] = ..., title: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., score: _Optional[float] = ..., relevance: _Optional[float] = ..., recall_score: _Optional[float] = ..., recall_rank: _Optional[int] = ..., rerank_score: _Optional[float] = ..., lexical_score: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize", "encode", "recall", "fetch", "queue", "rerank", "total")
    TOKENIZE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    tokenize: float
    encode: float
    recall: float
    fetch: float
    queue: float
    rerank: float
    total: float
    def __init__(self, tokenize: _Optional[float] = ..., encode: _Optional[float] = ..., recall: _Optional[float] = ..., fetch: _Optional[float] = ..., queue: _Optional[float] = ..., rerank: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class SearchReply(_message.Message):
    __slots__ = ("query", "hits", "timings", "candidates", "reranked", "finalists", "reread", "degraded", "degraded_code", "truncated", "device", "version", "warnings")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    RERANKED_FIELD_NUMBER: _ClassVar[int]
    FINALISTS_FIELD_NUMBER: _ClassVar[int]
    REREAD_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_CODE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    query: str
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    timings: Timings
    candidates: int
    reranked: int
    finalists: int
    reread: int
    degraded: str
    degraded_code: str
    truncated: bool
    device: str
    version: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, query: _Optional[str] = ..., hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., candidates: _Optional[int] = ..., reranked: _Optional[int] = ..., finalists: _Optional[int] = ..., reread: _Optional[int] = ..., degraded: _Optional[str] = ..., degraded_code: _Optional[str] = ..., truncated: _Optional[bool] = ..., device: _Optional[str] = ..., version: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class RerankRequest(_message.Message):
    __slots__ = ("query", "texts", "ids", "collection", "model", "prompt_name", "prompt", "instruction", "budget_ms")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    query: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    ids: _containers.RepeatedScalarFieldContainer[str]
    collection: str
    model: str
    prompt_name: str
    prompt: str
    instruction: str
    budget_ms: float
    def __init__(self, query: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., ids: _Optional[_Iterable[str]] = ..., collection: _Optional[str] = ..., model: _Optional[str] = ..., prompt_name: _Optional[str] = ..., prompt: _Optional[str] = ..., instruction: _Optional[str] = ..., budget_ms: _Optional[float] = ...) -> None: ...

class RankedPassage(_message.Message):
    __slots__ = ("index", "score", "truncated")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    index: int
    score: float
    truncated: bool
    def __init__(self, index: _Optional[int] = ..., score: _Optional[float] = ..., truncated: _Optional[bool] = ...) -> None: ...

class RerankReply(_message.Message):
    __slots__ = ("passages", "tokens", "degraded", "degraded_code", "timings")
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_CODE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    passages: _containers.RepeatedCompositeFieldContainer[RankedPassage]
    tokens: int
    degraded: str
    degraded_code: str
    timings: Timings
    def __init__(self, passages: _Optional[_Iterable[_Union[RankedPassage, _Mapping]]] = ..., tokens: _Optional[int] = ..., degraded: _Optional[str] = ..., degraded_code: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts", "collection", "model", "prompt_name", "prompt", "instruction")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    collection: str
    model: str
    prompt_name: str
    prompt: str
    instruction: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., collection: _Optional[str] = ..., model: _Optional[str] = ..., prompt_name: _Optional[str] = ..., prompt: _Optional[str] = ..., instruction: _Optional[str] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class EmbedReply(_message.Message):
    __slots__ = ("vectors", "tokens", "truncated", "timings")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector]
    tokens: int
    truncated: int
    timings: Timings
    def __init__(self, vectors: _Optional[_Iterable[_Union[Vector, _Mapping]]] = ..., tokens: _Optional[int] = ..., truncated: _Optional[int] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...
