"""Crowds: who asks what, when.

A call is in ``call``; crowds are ``open_loop``, ``sessions``, ``traces`` and ``servegen``; ``impatience`` and
``merge`` go around them. Generators are made of ``arrivals`` and ``rates`` (when), ``lengths`` and ``spreads``
(how long), ``tenants`` (who), ``links`` (what prompts have in common).
"""
