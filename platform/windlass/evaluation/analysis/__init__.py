"""What one figure of quality hides: robustness, attacks, weak slices, fairness by group, and explanations."""
