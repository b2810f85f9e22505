"""What a large run takes on many devices: samples an image from published logs, and the scheduler simulated."""
