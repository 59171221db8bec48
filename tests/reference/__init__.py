"""Makes REFERENCE.md of the code: settings, events, conditions, names and metrics. No fact of them stands here."""
