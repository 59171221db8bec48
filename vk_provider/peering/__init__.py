"""Lets instances fetch the blobs of images from each other, so that each leaves its registry once for each zone.

The registry decides who may have what: a pod's instance is told of a blob's holders only after the registry has shown
the image's manifest to the pod's own credentials, and only of those that have the blob from the same repository.
"""
