"""What each command does; imported when it is called, so that `windlass --help` stays fast."""
