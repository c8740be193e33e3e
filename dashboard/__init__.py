"""The store's recorder of record and its live page."""
