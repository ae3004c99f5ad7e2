"""Runs programs under chosen interleavings, and makes a failing one small."""
