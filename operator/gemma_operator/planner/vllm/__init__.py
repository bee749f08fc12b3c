"""How vLLM plans its memory: versions, KV cache, overhead."""
