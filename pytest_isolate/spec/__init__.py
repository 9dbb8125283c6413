"""What a test asks for: keys, values, Specs. Reads no file and asks no kernel."""
