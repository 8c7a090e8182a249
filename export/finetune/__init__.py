"""Training a reranker adapter: data, hard negatives, the loop, validation and what is written."""
