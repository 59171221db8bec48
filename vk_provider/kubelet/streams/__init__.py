"""Upgraded streams (SPDY, WebSocket): passed through to the agent unchanged, also when they end before their time."""
