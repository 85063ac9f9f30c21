"""Phantom: a seed goes in; pictures whose malignancy is known, their table, and what any reader of them can reach come out. No torch."""
