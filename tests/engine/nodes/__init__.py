"""Two real nodes on one machine: kubelets, containerd, DNS and enforced NetworkPolicies, each in its own namespaces."""
