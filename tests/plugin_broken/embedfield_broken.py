"""A plugin that fails as most broken ones do: something that it needs is not there."""

raise ImportError("libtide is not installed")
