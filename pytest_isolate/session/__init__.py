"""The keeper of one pytest process: Spec in, Outcome out."""
