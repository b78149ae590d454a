"""Tracking and model versions in MLflow."""
