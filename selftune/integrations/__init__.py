"""selftune in training frameworks: one module a framework, imported only when asked for.

    from selftune.integrations.transformers import SelfTuneCallback

docs/frameworks.md says what to type in each framework, those without a module here included.
"""
