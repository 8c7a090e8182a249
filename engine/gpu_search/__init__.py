"""A whole search on the device: vectors, token store and both models there; query ids go up, rows and scores down.

    device_store.py      what of a collection lies on the device
    device_index.py      the exact scan as an index, for a search stage by stage
    recall_step.py       queries → their nearest rows: encode, exact scan
    rerank_step.py       rows → final order: pack, cross-encoder, evidence, top-k
    lexical_evidence.py  how much of the query's words a candidate holds
    buffers.py           what all steps write into
    graphs.py            CUDA graphs over both steps
    queries.py           what the pipeline is asked and what it answers
    pipeline.py          searches of one micro-batch, in whatever pieces it takes
    open_pipeline.py     the pipeline of a collection and its models
    search_model.py      the pipeline as a model of the batcher
    requests.py          the engine's side: which searches go there, and what each waits for

Needs PyTorch; imported when a pipeline is opened.
"""
