"""Monitor and explain: an optimizer's numbers every few steps, and their meaning in words."""

from selftune.monitoring.explanation import explain as explain
from selftune.monitoring.monitor import Monitor as Monitor
