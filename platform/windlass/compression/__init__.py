"""Candidates from a trained model, each in the form in which it is served: `make` plans and makes them."""
