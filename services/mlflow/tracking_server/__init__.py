"""Starts MLflow's tracking server on a database, migrates that database, and says whether both answer."""
