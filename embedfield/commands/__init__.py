"""Commands: a file a command, or a family of them. Each parses, calls the library once, and prints."""
