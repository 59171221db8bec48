"""Makes the data that the catalog of the `aws` cloud is shipped with."""
