"""IAM as far as the provider's policy goes: what a call needs, and whether a policy allows it."""
