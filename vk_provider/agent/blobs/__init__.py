"""Blobs of images, from other instances: containerd asks a mirror on the loopback, which asks the provider for a source
and hands over what it has fetched and checked. In every other case it answers 404, and containerd goes to the registry.
"""
