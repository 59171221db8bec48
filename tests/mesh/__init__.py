"""Istio on nodeless instances, unmodified: `make test-istio`. Not a part of `make test`: the builds take minutes."""
