"""The provider's page in a real browser: that it shows what it should, loads nothing, and looks as in the README."""
