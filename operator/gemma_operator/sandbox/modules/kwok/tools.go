//go:build tools

// Package tools pins what `go mod tidy` must keep in go.sum; it is never built itself.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
