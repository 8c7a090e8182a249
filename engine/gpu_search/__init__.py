"""The resident pipeline: vectors, token store and both models on one device; query ids go up, rows and scores down.

    store.py     what of a collection lies on the device
    recall.py    queries → their nearest rows: encode, exact scan
    rerank.py    rows → final order: pack, cross-encoder, evidence, top-k
    evidence.py  what recall says of a candidate beside its logit
    graphs.py    CUDA graphs over both, and the buffers they are captured with
    queries.py   what it is asked and what it answers
    pipeline.py  searches of one micro-batch, in whatever pieces it takes
    stage.py     the batcher's model
    searches.py  the engine's side: which searches go there, and their story

Needs PyTorch; imported when a pipeline is opened.
"""
