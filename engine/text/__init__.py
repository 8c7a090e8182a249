"""Text → token ids, and the one structure that carries them to the models."""
