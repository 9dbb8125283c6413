"""What is to be done for a Spec on a Host: Plans, as pure data."""
