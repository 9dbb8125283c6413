"""Plain facts of Linux and the C core; knows nothing of Specs and Plans."""
