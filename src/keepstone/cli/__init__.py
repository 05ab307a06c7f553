"""The command line: the only code that prints, exits or reads the environment.

Layer: cli. Each command is a module of its own, imported only when it is called.
"""
