"""What this host allows, found by building sandboxes and taking them down."""
