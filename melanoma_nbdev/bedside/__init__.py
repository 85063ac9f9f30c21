"""Bedside: an artefact and an image go in; an answer, or the reason for none, comes out. No torch."""
