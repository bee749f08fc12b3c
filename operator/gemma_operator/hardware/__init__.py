"""What the cluster has: nodes, pods and declared pools as values, and the pools they make."""
