"""Models with random weights, and searches on them, as large as they are wanted: speed does not depend on the weights.

shapes.py      how large a model is
artifacts.py   artifact folders that every contestant can open, and texts of a wanted number of tokens
weights.py     the tensors of such a model, by its family's names
onnx_graph.py  the fused graph of a BERT
workload.py    a search over millions of random passages that never were on a disk
"""
