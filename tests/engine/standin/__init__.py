"""A stand-in for vLLM, for what a real node does with an engine's pods; a real engine takes minutes and gigabytes."""
