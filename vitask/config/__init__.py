"""Configuration: schema, composition, and the one place that builds objects from it."""
