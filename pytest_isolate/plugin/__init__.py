"""pytest's side: configuration, the run of a test outside and inside, reports."""
