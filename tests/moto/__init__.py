"""moto's server as EC2 is: what moto lacks is filled in, and faults are switched on over HTTP.

Run as a process of its own (`python -m tests.moto`), it speaks AWS's own protocols on one port. Each gap that is filled
has a test in tests/integration/aws/test_moto.py that shows the behaviour which AWS documents.
"""
