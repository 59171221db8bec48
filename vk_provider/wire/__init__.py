"""The contract between provider and agent: boot data, messages down and up, HTTP routes, versions.

Pure data: no I/O, no clock. Both sides import it; it imports nothing of the project. Messages are plain dicts that
orjson encodes; the TypedDicts here are their schema.
"""
