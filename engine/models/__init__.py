"""Exported models: the artifact on disk, and the encoder and cross-encoder that run it."""
