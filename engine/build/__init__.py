"""From a corpus to a collection, and from judged questions to its weights."""
