"""An isolated test's protocol: the half in pytest's process, and the half in the child."""
