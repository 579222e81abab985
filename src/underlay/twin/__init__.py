"""The driver of the modelled world. Today it replays what the live driver recorded."""
