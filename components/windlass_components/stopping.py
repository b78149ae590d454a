"""How a pipeline that was told to stop keeps further steps from starting."""

STOP_VARIABLE = "WINDLASS_STOP"
"""Set in the environment of a step that starts after that: it ends at once."""
