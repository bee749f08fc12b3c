"""gemma-operator: one `GemmaDeployment` in, a healthy Gemma 4 endpoint out."""

__version__ = "0.1.0"
