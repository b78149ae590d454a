"""Pipelines of the components, and how one runs on this machine."""
