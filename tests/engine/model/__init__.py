"""A real vLLM and a Gemma 4 so small that a CPU serves it, as files that any pod can mount.

Nothing in the product knows of them: they come in through `--catalog`, an image and a PersistentVolume.
"""
