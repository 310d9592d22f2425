"""Layouts: how every tensor lies in memory."""
