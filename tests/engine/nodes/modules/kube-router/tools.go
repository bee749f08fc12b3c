//go:build tools

// Package tools pins what enforces NetworkPolicies.
package tools

import _ "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
