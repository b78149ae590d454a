"""Kubernetes: what a cluster offers, and distributed jobs in it. Imports nothing of ours but errors."""
