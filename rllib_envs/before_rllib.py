"""Imported before ray.rllib, whose import brings dm_control and, through it, whatever GL backend is found first.

The one module that works at import: Ray starts env runners and trials in processes of their own, where the import of
their class is the first thing that is ours. With GL loaded before Triton they would crash (rllib_envs/gl.py).
"""

from rllib_envs.gl import prepare_gl

prepare_gl()
