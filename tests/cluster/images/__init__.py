"""OCI images made on this machine, for the demo and for Kubernetes' own tests.

Nothing is pulled: contents come from Debian packages, Go binaries and a few lines of C of ours. `rootfs` collects
the files, `oci` turns them into blobs, `store` keeps the blobs in the user's cache, `catalog` names the images,
`recipe` says what is in each, `distribution` pushes them to a registry. Builds are deterministic: the same inputs give
the same digests. The command line is `python -m tests.cluster.images`.
"""
