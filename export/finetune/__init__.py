"""Training a reranker: data sets of questions with hard negatives, sentence-transformers' trainer, what is written."""
