"""Rollouts under test."""
