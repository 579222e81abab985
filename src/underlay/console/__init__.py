"""The console: pages in static files, the JSON that they read, and who may see it."""
