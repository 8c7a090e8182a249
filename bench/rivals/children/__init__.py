"""Scripts that run in a rival's environment as `python -m children.NAME`; they import nothing of Tandem."""
