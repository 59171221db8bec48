"""A cluster whose pods and Services have addresses of both IP families, as a user sees it."""
