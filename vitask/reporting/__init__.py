"""Reporting: tables from run folders; imports no torch."""
