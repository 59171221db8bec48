"""What EC2 offers and at what price: instance types, where they are, on-demand and spot prices.

`catalog` is the entry point: it refreshes a `snapshot`, which `store` keeps on disk, and makes offerings of it.
`answers` is the shape of what AWS says, `machines` what an instance type has, `prices` what it costs and who says so.
Nothing here knows the SDK: calls go through `client`.
"""
