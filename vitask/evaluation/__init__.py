"""Evaluation: closed-set scoring, generation and parsing, metrics."""
