"""Follows Services, EndpointSlices and NetworkPolicies and publishes the compiled tables to the instances."""
