"""Watching an optimizer at work: its numbers every few steps, and what they mean in words."""

from selftune.monitoring.explanation import explain as explain
from selftune.monitoring.monitor import Monitor as Monitor
