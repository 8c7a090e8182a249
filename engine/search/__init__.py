"""A two-stage search and its parts, and requests for one model alone."""
