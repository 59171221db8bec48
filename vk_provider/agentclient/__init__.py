"""The one door to instances: dials agents, gives them an identity, holds the session, opens raw streams."""
