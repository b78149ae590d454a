"""What a run will make and what it will take: from a few timed steps, and from what earlier runs took."""
