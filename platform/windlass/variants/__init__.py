"""A model as it is served: its bundle, signature, golden examples and engines. Imports no torch."""
