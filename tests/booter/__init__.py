"""Makes the instances of a moto server boot: the hypervisor of a cloud that otherwise only pretends.

It follows what the server says of its instances and runs a sandbox of this machine for each one that is pending or
running, made of vk_provider.cloud.local's parts, with the instance's own user data, its private addresses, the limits
of its type and an IMDSv2 endpoint. An instance that dies is told to the server, one that the server ends is killed.
"""
