"""Grab: from the shutter to a verified picture, and what a picture costs."""
