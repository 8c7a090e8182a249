"""Whether a graph computes what PyTorch computes, on real text."""
