"""What is served where, and why not otherwise. Pure."""
