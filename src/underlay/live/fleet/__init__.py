"""Fleets: who keeps the replicas of every model running, and says which are ready."""
