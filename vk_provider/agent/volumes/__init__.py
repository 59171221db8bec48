"""The pod's volumes on the instance: made, kept up to date, mounted into containers, measured, torn down.

What the files of a volume hold is decided by podmodel; this room writes them. It asks no API and starts nothing. The
pod worker calls PodVolumes; the functions below it are synchronous and run in a thread.
"""
