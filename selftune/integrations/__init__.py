"""Integrations with training frameworks, one module for each, which is not imported by selftune.

    from selftune.integrations.transformers import SelfTuneCallback

docs/frameworks.md says what to type in each framework, also in those that need no module.
"""
