"""Windlass: the smallest model version that meets a budget, on a laptop or a cluster."""

__version__ = "0.1.0"
