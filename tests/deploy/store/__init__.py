"""The store side under test."""
