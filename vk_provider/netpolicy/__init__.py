"""NetworkPolicies of a pod -> nft table and deltas, as the API means them. Pure."""
