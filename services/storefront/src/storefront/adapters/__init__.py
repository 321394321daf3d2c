"""The services behind the page, and its static files."""
