"""Generated gRPC stubs of the container runtime: CRI v1 (`api`) and containerd's event stream (`events`).

Only `runtime` and `images` call them; other modules use the messages (`api_pb2`, usually imported as `pb`).
How they are made: README.md beside this file.
"""
