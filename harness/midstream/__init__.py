"""Cuts a store's connection at a named byte, and proves what a driver made of it."""
