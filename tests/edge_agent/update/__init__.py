"""Tests of launcher and updater."""
