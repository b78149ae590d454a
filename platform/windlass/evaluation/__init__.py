"""Each candidate measured as it will be served, and the smallest one inside the budget chosen."""
