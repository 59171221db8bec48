"""What is so: `observer` reads the runtime, `container` and `resources` make the API's statuses of it (pure),
`publisher` tells the PodStatus when it has changed.
"""
