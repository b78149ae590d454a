"""What a task means: loss, metrics, default architecture, serving signature. One file per task."""
