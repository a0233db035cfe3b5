"""What brings signs of life of devices into device.heartbeats: the gateway, and pollers."""
