"""How plugins are described, found and built; the first-party plugins are in the top-level ``plugins``.

- ``specs``: what a plugin offers, as inert descriptions; plugin authors read this first.
- ``hookspecs``, ``part_hookspecs``: one hook per kind; each docstring is a tutorial with an example.
- ``entries``: an offered spec with its origin, and the class it names.
- ``registry``: finds installed plugins and looks components up by name.
- ``references``: reads and writes ``name:key=value``.
- ``components``: imports a target, validates its parameters and builds it.
- ``templates``: the files that ``rbmed new`` writes.
- ``tracebacks``: which plugin an exception came from.
"""
