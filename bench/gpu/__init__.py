"""`tandem bench gpu`: everything that is said about GPUs, measured in one go on a machine with one and no network.

    run.py         sections one after the other, each on its own feet, within the minutes given
    settings.py    what is measured, in full and as a dry run on a CPU
    models.py      random models as artifact folders, and texts of a wanted length
    onnx_graph.py  their fused ONNX graphs, written without the onnx package
    data.py        collections that never were on a disk
    clock.py       times and rates
    checks.py      kernels, runtimes and FAISS against their oracles
    floors.py      what the card can do: copy and matrix product
    ops.py         each kernel against PyTorch
    searches.py    latency of a query, throughput of many, memory
    engine.py      a real collection with its own models, end to end
    rivals.py      the same rerank by others
    report.py      the tables

Everything heavy is imported inside a section, so that what is missing costs that section alone, with the reason.
"""
