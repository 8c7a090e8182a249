"""`tandem bench gpu`: the other benchmarks on a GPU in one go, on a machine with one and no network.

    run.py       part by part, within the minutes given
    plan.py      the sections, what they are made of, and the order of their parts; settings.py: their sizes
    parts.py     a part in child processes, as many as its faults take; worker.py is what such a process does
    record.py    the document as it grows, written after each row; targets.py: what is to be reached, by its rows
    device.py    how much of the card is taken, and whether it still works
    checks.py  kernels.py  search.py  rivals.py    the sections: pytest's tests, and the other benchmarks

Everything heavy is imported inside a part, so that what is missing costs that part alone, with the reason.
"""
