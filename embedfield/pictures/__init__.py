"""Pictures: fields as colours, maps and styles."""
