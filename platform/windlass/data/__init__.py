"""From a source to a dataset bundle: read, cleaned, split without leakage, transforms fitted on train only."""
