"""vLLM in the cluster: a Deployment and what belongs to it, all owned, all by server-side apply."""
