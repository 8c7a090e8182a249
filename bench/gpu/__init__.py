"""`tandem bench gpu`: everything that is said about GPUs, measured in one go on a machine with one and no network.

    run.py         part by part, within the minutes given
    settings.py    what is measured, in full and as a dry run on a CPU
    sections.py    the sections, and in which order their parts are measured
    cases.py       what a part is made of: cases, each of which gives rows
    work.py        a part, case by case: what a child process does
    children.py    a part in child processes, as many as its faults take
    record.py      the document as it grows, written after each row
    targets.py     what is to be reached, judged by the rows
    models.py      random models as artifact folders, and texts of a wanted length
    onnx_graph.py  their fused ONNX graphs, written without the onnx package
    data.py        collections that never were on a disk
    clock.py       times and rates
    memory.py      how much of the card is taken
    checks.py      kernels, runtimes and FAISS against their oracles
    floors.py      what the card can do: copy and matrix product
    ops.py         each kernel against PyTorch
    searches.py    latency of a query, throughput of many
    engine.py      a real collection with its own models, end to end
    rivals.py      the same rerank by others
    report.py      the tables

Everything heavy is imported inside a part, so that what is missing costs that part alone, with the reason.
"""
