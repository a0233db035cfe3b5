"""Pictures on their way from camera to store."""
