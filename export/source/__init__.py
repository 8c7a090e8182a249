"""Where a model comes from, and how it is meant to be used."""
