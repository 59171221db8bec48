"""What a launched EC2 instance does: on a moto server whose instances boot (tests.booter)."""
