"""All access to instances: dials agents, issues their certificates, runs the session, opens raw streams."""
