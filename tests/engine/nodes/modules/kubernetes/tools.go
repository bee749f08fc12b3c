//go:build tools

// Package tools pins what runs on a node. The versions are those of the sandbox's own control plane, so
// that most packages come from the same build cache.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
