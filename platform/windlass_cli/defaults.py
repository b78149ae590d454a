"""What is meant where nothing is said."""

DEFAULT_ROOT = ".windlass"
DEFAULT_PORT = 8080
