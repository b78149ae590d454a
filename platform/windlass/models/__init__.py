"""Architectures by name, a user's own module, and a model's files: safetensors and JSON."""
