"""Report: claims go in; what is handed out (tables, a page, a card, a signed artefact) comes out."""
