"""The world under the replicas: where they stand, what connects, feeds and cools them, and what breaks."""
