"""EC2: an instance is a virtual machine of AWS, found by the tag of its owner.

`client` alone knows the SDK; what it answers passes `answers` and nothing else. Launches go by RunInstances where one
offering is asked for, else by CreateFleet; `ways` says which call gives instances their second address.
"""
