"""`tandem bench gpu`: the other benchmarks on a GPU in one go, on a machine with one and no network.

    run.py            part by part, within the minutes given
    case.py           the sections, what they are made of, and the order of their parts
    parts.py          a part in child processes, as many as its faults take; worker.py is what such a process does
    result_file.py    the document as it grows, written after each row; report.py: its tables
    targets.py        what is to be reached, judged by the rows
    checks.py         the tests marked `gpu`, run by pytest
    roofline.py  kernels.py  search.py  collection.py  rivals.py    the sections
    settings.py  random_models.py  onnx_graph.py  synthetic.py      what is measured on: nothing of it was on a disk
    clock.py  memory.py    times, and how much of the card is taken

Everything heavy is imported inside a part, so that what is missing costs that part alone, with the reason.
"""
