"""What people write for Underlay: YAML read strictly into plain values, and every mistake shown where it stands."""
