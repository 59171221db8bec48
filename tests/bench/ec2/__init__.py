"""What launches on EC2 cost: calls, and the time from a bind to the first of them.

The provider is a process as in production, the API server a real one, AWS is moto's server with token buckets, and the
instances' agents live in the provider's process, so that nothing but calls and the provider itself is measured.
"""
