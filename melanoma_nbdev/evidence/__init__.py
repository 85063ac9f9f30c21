"""Evidence: `oof.csv` goes in; what may be claimed, with its uncertainty, comes out. No torch."""
